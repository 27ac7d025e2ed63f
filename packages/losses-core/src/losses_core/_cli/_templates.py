"""The files of a new loss, and of a new package of losses: a skeleton that passes the contract.

`losses new` fills them in, and so does the tool that adds a loss to the repository of this library. Names in them:
``$loss`` the class, ``$function`` its function and module, ``$oracle`` the reference in the tests, ``$distribution``
and ``$package`` the distribution and its import name, ``$core`` the range of `losses-core`.
"""

from __future__ import annotations

from string import Template
from typing import Final

SOURCE: Final = '''"""$loss: what it is, and the paper."""

from __future__ import annotations

from typing import Any, Unpack

from torch import Tensor

from losses_core import BaseLoss, LossOptions, examples
from losses_core.kernels import definition
from losses_core.utils import checks


def _prepare(pred: Tensor, target: Any, **options: Any) -> tuple[Tensor, Tensor, dict[str, Any]]:
    checks.tensor("pred", pred)
    checks.tensor("target", target)
    checks.same_shape(pred, target)
    return pred, target if target.is_floating_point() else target.to(pred.dtype), options


@definition(layout="elements", prepare=_prepare)
def $function(pred: Tensor, target: Tensor, *, scale: float = 1.0) -> Tensor:
    """Squared error of each element times a scale, unreduced: see `$loss`.

    Args:
        pred: any shape.
        target: of the shape of ``pred``.
        scale: multiplies each element, > 0.

    Returns:
        The shape of ``pred``.
    """
    return scale * (pred - target).square()


class $loss(BaseLoss):
    r"""Squared error times a scale.

    .. math:: l = s \\, (\\text{pred} - \\text{target})^2

    Use when: a skeleton is to be filled in.

    Args:
        scale: s, > 0. Default: 1.
        **options: ``loss_weight``, ``reduction``, ``avg_factor``, ``loss_name``, ``sync_dist`` of `BaseLoss`.

    Shape:
        - pred: any shape.
        - target: the shape of pred.
        - weight: the shape of pred or a leading-dims prefix of it.

    Returns:
        0-d for ``mean`` (Σ l / number of elements, or ``avg_factor``) and ``sum``, the shape of pred for ``none``.

    Raises:
        InputError: unequal shapes.
        ConfigError: an option outside its range.

    Example:
        >>> import torch
        >>> loss = $loss(scale=0.5)
        >>> loss(torch.tensor([1.0, 3.0]), torch.zeros(2))
        tensor(2.5000)

    References:
        Authors, title, venue and year, arXiv number.
    """

    example = examples.VALUES
    function = $function

    def __init__(self, scale: float = 1.0, **options: Unpack[LossOptions]) -> None:
        super().__init__(**options)
        self.scale = checks.number(self, "scale", scale, above=0)
'''

INPUTS: Final = '''def ${function}_inputs(generator, n):
    """Numbers, and targets of their shape."""
    pred, target = torch.randn(2, n, 5, generator=generator, dtype=torch.float64)
    return Inputs(pred, target)
'''

ORACLE: Final = '''def $function(pred, target, scale=1.0):
    """The published formula in NumPy: the loss of each element, and its share of the denominator of the mean."""
    return scale * (pred - target) ** 2, np.ones_like(pred)
'''

# logits=False: pred holds no logits, so it is not tried at ±6e4
CASES: Final = """    Case(
        "$loss",
        make=${function}_inputs,
        oracle=$oracle,
        logits=False,
    ),
    Case(
        "$loss",
        make=${function}_inputs,
        oracle=$oracle,
        logits=False,
        id="scale",
        options={"scale": 2.5},
    ),
"""

TEST: Final = f'''"""Every loss of the package, run through the contract of the losses packages."""

import numpy as np
import torch

from losses_testkit import Case, Inputs, LossContract, check_complete


{INPUTS}

{ORACLE}

CASES = [
{CASES}]


class TestContract(LossContract):
    cases = CASES


def test_every_loss_has_a_case():
    check_complete("$distribution", CASES)
'''

PYPROJECT: Final = """[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "$distribution"
version = "0.1.0"
description = "Losses for PyTorch"
readme = "README.md"
requires-python = ">=3.11"
dependencies = ["losses-core$core", "torch>=2.4"]

# One line per loss: its name in configs, and where the class is. Nothing else registers it.
[project.entry-points."losses_core.losses"]
$loss = "$package.$function:$loss"

[dependency-groups]
test = ["losses-testkit", "numpy", "pytest"]

[tool.hatch.build.targets.wheel]
packages = ["src/$package"]
"""

INIT: Final = '''"""Losses for PyTorch."""

from $package.$function import $loss, $function

__all__ = ["$loss", "$function"]
'''

README: Final = """# $distribution

Losses for PyTorch. Once installed, each can be named in a config of `losses-core`.

```bash
pip install -e .
losses show $loss
pytest                # needs losses-testkit, numpy and pytest
```
"""

PACKAGE: Final = {
    "pyproject.toml": PYPROJECT,
    "README.md": README,
    "src/$package/__init__.py": INIT,
    "src/$package/$function.py": SOURCE,
    "src/$package/py.typed": "",
    "tests/__init__.py": "",
    "tests/test_contract.py": TEST,
}
"""Path → text of the files of a package, both with names to fill in."""


def fill(template: str, **names: str) -> str:
    """Put names into a template."""
    return Template(template).substitute(names)
