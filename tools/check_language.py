"""The language of what people read: words of a private vocabulary, and what to write instead.

`python tools/check_language.py` lists every line with one of the words and fails if there is any. It reads pages,
docstrings, comments, names and error texts; a line that must have such a word says so with `language: ok`.
"""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

from repository import ROOT

WORDS = {
    r"\bslopes?\b": "gradient, derivative",
    r"\bmass(es)?\b": "normalizer, denominator; of probability: probability",
    r"\b(is|are|be) left out\b|\bleaves? out\b": "excluded, omitted",
    r"\bhanded on\b|\bhands? on\b": "passed, returned",
    r"\bwritten out\b|\bwrit(es?|ing) out\b": "materialized, saved",
    r"\bis answered\b": "raises an error",
    r"\bcosts? (0|nothing)\b": "is 0, contributes nothing; takes no time",
    r"\bstands? (alone|beside|there|around)\b": "is",
    r"\bhosts?\b(?![-– ](device|sync))": "CPU",
    r"\bpeers?\b": "other libraries",
    r"\bof_(?!(files|classes|labels)\b)(any|moderate|hard|model)\b": "a name that says what it computes",
    r"\bdear\b": "expensive",
    r"\bsome wrong inputs\b|\btaken off one another\b": "subtracted, cancellation",
    r"\bfalls? away\b|\bturns? away\b": "vanishes, down-weights",
    r"\bas it is to be\b|\bwithout further words\b": "by default",
}

PAGES = ("*.md", "docs/**/*.md", "packages/*/README.md", "packages/*/src/**/*.py", "tests/testkit/**/*.py")
GENERATED = ("docs/comparison/", "docs/_generated/", "build/")
EXEMPT = "language: ok"


def files() -> Iterator[Path]:
    for pattern in PAGES:
        for path in sorted(ROOT.glob(pattern)):
            if not str(path.relative_to(ROOT)).startswith(GENERATED) and "_build" not in path.parts:
                yield path


def faults(text: str) -> Iterator[tuple[int, str, str]]:
    """Line, word, and what to write instead."""
    for number, line in enumerate(text.splitlines(), 1):
        if EXEMPT in line:
            continue
        for word, instead in WORDS.items():
            found = re.search(word, line, re.IGNORECASE)
            if found:
                yield number, found[0], instead


def main() -> int:
    found = [
        f"{path.relative_to(ROOT)}:{number}: {word!r}: write {instead}"
        for path in files()
        for number, word, instead in faults(path.read_text(encoding="utf-8"))
    ]
    print("\n".join(found) or "language: none of the listed words")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
