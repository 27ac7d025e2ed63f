"""Options of a loss that are used while it runs: its name, and its weight, which may be learned."""

from __future__ import annotations

import sys
import warnings
from typing import Any, ClassVar

from torch import Tensor

from losses_core._descriptions import snake_case
from losses_core._suggest import shown
from losses_core.errors import ConfigError, InputError
from losses_core.utils import checks

A_NAME = "a name of at most 200 characters, all of them printable"


def is_name(text: Any) -> bool:
    """Whether a text can be shown in a table or a log as it is."""
    return isinstance(text, str) and len(text) <= 200 and text.isprintable()


class NamedLoss:
    """What a loss is called: by logs, and by heads of mmseg.

    Such a head puts the value of a loss into a dict under `loss_name`, of which mmengine sums the entries whose key
    contains "loss" and logs the others. So a loss without a name of its own reads back one with "loss" in it.
    """

    _given_name: str | None = None
    _class_label: ClassVar[str]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls._class_label = snake_case(cls.__name__)

    @property
    def label(self) -> str:
        """The name of this loss in logs."""
        return self._given_name or self._class_label

    @property
    def loss_name(self) -> str:
        """The name as given, or `loss_<label>` where none was given."""
        given = self._given_name
        if not given:
            return f"loss_{self.label}"
        if "loss" not in given and "mmengine" in sys.modules:
            warnings.warn(
                f"a model of mmengine trains the losses whose name contains 'loss': under loss_name={given!r} this one "
                f"is logged only. Name it 'loss_{given}' to train it.",
                stacklevel=2,
            )
        return given

    @loss_name.setter
    def loss_name(self, name: str | None) -> None:
        if checks.text(self, "loss_name", name) is not None and not is_name(name):
            raise ConfigError(f"{type(self).__name__}: loss_name: expected {A_NAME}; got {shown(name)}.")
        self._given_name = name


def check_weight(owner: object, loss_weight: Any) -> Any:
    """Check a `loss_weight` given to a constructor and return it."""
    if isinstance(loss_weight, Tensor):
        raise TypeError(
            f"{type(owner).__name__}: loss_weight: expected a number; got a tensor. One that is learned is assigned to "
            "the loss: loss.loss_weight = torch.nn.Parameter(torch.tensor(1.0))."
        )
    return checks.number(owner, "loss_weight", loss_weight)


def weight_for(loss_weight: Any, value: Tensor) -> Any:
    """The `loss_weight` that multiplies a value: a number as it is, a tensor of one element as a 0-d one.

    Raises:
        InputError: A tensor of several elements.
    """
    if not isinstance(loss_weight, Tensor):
        return loss_weight
    if loss_weight.numel() != 1:
        raise InputError(f"loss_weight: expected one number; got a tensor of shape {tuple(loss_weight.shape)}.")
    return loss_weight.reshape(()).to(value.dtype)


def number_of(loss_weight: Any) -> Any:
    """The `loss_weight` for a config: the number that a learned one is now."""
    return loss_weight.item() if isinstance(loss_weight, Tensor) else loss_weight
