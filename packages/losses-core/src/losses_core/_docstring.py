"""What the docstring of a loss says, for programs: its first sentence and the text of each parameter."""

from __future__ import annotations

import inspect
import re


def summary(cls: type) -> str:
    """The first paragraph of the class's own docstring, in one line."""
    # of the class itself: a loss without one would show that of BaseLoss
    return " ".join(inspect.cleandoc(cls.__dict__.get("__doc__") or "").partition("\n\n")[0].split())


def parameter_texts(cls: type) -> dict[str, str]:
    """Parameter → its text in the section `Args:` of the docstrings of a class and its bases, the nearest first."""
    found: dict[str, str] = {}
    for base in cls.__mro__:
        lines = inspect.cleandoc(base.__dict__.get("__doc__") or "").splitlines()
        if "Args:" in lines:
            section = lines[lines.index("Args:") + 1 :]
            end = next((i for i, line in enumerate(section) if line and not line.startswith(" ")), len(section))
            text = inspect.cleandoc("\n" + "\n".join(section[:end]))
            for name, description in re.findall(r"^(\w+):\s*((?:.+\n?(?: .*\n?|\n)*))", text, re.MULTILINE):
                found.setdefault(name, " ".join(description.replace("``", "`").split()))
    return found
