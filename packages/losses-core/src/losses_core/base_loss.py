"""`BaseLoss`: weights, masks, precision and reduction of every loss, once."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, ClassVar, TypedDict, final

from torch import Tensor

from losses_core._descriptions import own_code, plain
from losses_core._foreign import parameter_hint
from losses_core._normalizers import NormalizerOfTarget
from losses_core._options import check_weight, number_of, weight_for
from losses_core._signature import call_parameters, constructor_parameters, flatten_constructor
from losses_core.distributed import ProcessGroup, compute_all
from losses_core.errors import ConfigError
from losses_core.kernels import definition_of
from losses_core.registry import LOSSES
from losses_core.utils import checks

if TYPE_CHECKING:
    from losses_core.examples import Example


class CommonOptions(TypedDict, total=False):
    """Options of every loss but ``reduction``: for classes that declare a ``reduction`` set of their own."""

    loss_weight: float
    avg_factor: float | None
    loss_name: str | None
    sync_dist: bool


class LossOptions(CommonOptions, total=False):
    """Options that every loss takes by keyword (``**options: Unpack[LossOptions]``)."""

    reduction: str


class BaseLoss(NormalizerOfTarget):
    r"""Base of every loss: a subclass names its function, and weights, masks, precision and reduction happen here.

    A call runs these steps, in this order: half-precision inputs are cast to float32 and autocast is switched off; the
    function gives the loss of each element; the sample weight multiplies it; it is reduced; ``loss_weight`` multiplies
    the result.

    .. math::
        \text{mean} = \frac{\sum_i w_i \, l_i}{\sum_i m_i}, \qquad
        \text{sum} = \sum_i w_i \, l_i, \qquad \text{none} = w_i \, l_i

    with :math:`m_i` the normalizer of an element: 1, the class weight of its label, or 0 where it is ignored.
    ``avg_factor`` replaces the denominator. A denominator that is not positive counts as 1: the loss of an empty or
    fully ignored batch is 0.

    Subclasses define ``__init__`` (its parameters stored under their own names, ``**options: Unpack[LossOptions]``
    passed on) and name their ``function``, a `losses_core.kernels.definition`, which takes the parameters of the same
    names; or they define ``_forward(pred, target, *, keywords)``. A keyword may be given at the call; one that is also
    a constructor parameter falls back to the constructor's value.

    Args:
        loss_weight: multiplies the result, for every reduction; may be changed between steps.
        reduction: ``'none'``, ``'mean'`` or ``'sum'``.
        avg_factor: denominator of ``mean`` instead of the normalizer, a positive number.
        loss_name: label in logs; by default the class name in snake case without its trailing Loss.
        sync_dist: normalise over all ranks of ``torch.distributed`` instead of this one; over those of the attribute
            ``process_group`` where that is set.

    Raises:
        ConfigError: an option outside its range.
        TypeError: an unknown option, an option of the wrong type.

    Example:
        >>> import torch
        >>> class AbsoluteLoss(BaseLoss):
        ...     def _forward(self, pred, target):
        ...         return (pred - target).abs()
        >>> loss = AbsoluteLoss(loss_weight=2.0)
        >>> loss(torch.tensor([1.0, 4.0]), torch.zeros(2), weight=torch.tensor([1.0, 0.0]))
        tensor(1.)
    """

    example: ClassVar[Example | None] = None
    """The kind of inputs to try this class with, of `losses_core.examples`: for `losses probe` and `losses plot`."""

    coupled: str | None = None
    """What couples the rows of this class. None where the value is a sum over rows divided by a normalizer, and may be
    computed part by part; ``'image'`` where a row depends on its own sample, ``'batch'`` where it depends on others."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "forward" in cls.__dict__:
            raise TypeError(f"{cls.__name__} defines forward(), which is final in BaseLoss: define _forward() instead.")
        # torch.compile keeps its variants, eight at most, per code object: one per class, not one for all losses
        cls.forward = own_code(BaseLoss.forward)  # type: ignore[misc,method-assign]
        if "__init__" in cls.__dict__:
            flatten_constructor(cls)
        if "_forward" in cls.__dict__:
            cls.function = cls._definition = None
            cls._call_parameters = call_parameters(cls._forward)
        elif cls.function is not None:
            cls._definition = definition_of(cls.function)
            own = constructor_parameters(cls)
            given = call_parameters(cls.function)
            cls._function_options = tuple(name for name in given if name in own or name not in cls.internal_options)
            cls._call_parameters = {
                name: inspect.Parameter.empty if name in own else default
                for name, default in given.items()
                if (name in cls.per_call if name in own else name not in cls.internal_options)
            }

    def __init__(
        self,
        *,
        loss_weight: float = 1.0,
        reduction: str = "mean",
        avg_factor: float | None = None,
        loss_name: str | None = None,
        sync_dist: bool = False,
        **unknown: Any,
    ) -> None:
        super().__init__()
        if self.function is None and type(self)._forward is BaseLoss._forward:
            raise TypeError(f"{type(self).__name__} defines neither function nor _forward: it computes nothing.")
        for name in unknown:
            hint = parameter_hint(type(self).__name__, name, constructor_parameters(type(self)))
            raise TypeError(f"{type(self).__name__} has no parameter {name!r}.{hint}")
        self.loss_weight = check_weight(self, loss_weight)
        self.reduction = checks.choice(self, "reduction", reduction, self.reductions)
        self.avg_factor = None if avg_factor is None else checks.number(self, "avg_factor", avg_factor, above=0)
        self.loss_name = loss_name
        self.sync_dist = checks.flag(self, "sync_dist", sync_dist)
        self.process_group: ProcessGroup | None = None
        if reduction == "sum" and avg_factor is not None:
            raise ConfigError(f"{type(self).__name__}: reduction='sum' takes no avg_factor; use reduction='mean'.")

    @final  # type: ignore[misc]  # nn.Module declares forward as an attribute
    def forward(
        self,
        pred: Any,
        target: Any,
        weight: Tensor | None = None,
        avg_factor: float | Tensor | None = None,
        reduction_override: str | None = None,
        **kwargs: Any,
    ) -> Tensor:
        """Compute the loss.

        Args:
            pred: predictions, as the class describes (a tensor, or a tuple of them).
            target: targets, as the class describes.
            weight: sample weights, of the shape of the loss or of a leading-dims prefix of it.
            avg_factor: denominator of ``mean`` for this call: a number or a 0-d tensor.
            reduction_override: reduction for this call.
            **kwargs: keywords of this class.

        Returns:
            The reduced loss: 0-d, or the shape of the loss with ``'none'``; float32, or float64 for float64 input.

        Raises:
            InputError: a shape, dtype or option that does not fit.
            TypeError: an unknown or a missing keyword.
        """
        loss_weight = self.loss_weight
        if isinstance(loss_weight, Tensor):  # a learnable one gets a gradient
            result = self._evaluate(pred, target, weight, avg_factor, reduction_override, **kwargs)
            (value,) = compute_all([result], [self.label])
            weighted: Tensor = value * weight_for(loss_weight, value)
            return weighted
        result = self._evaluate(
            pred, target, weight, avg_factor, reduction_override, _scale=float(loss_weight), **kwargs
        )
        return result.compute() if result.group is None else compute_all([result], [self.label])[0]

    @classmethod
    def call_keywords(cls) -> frozenset[str]:
        """The keywords a call takes beside weight, avg_factor and reduction_override."""
        return frozenset(cls._call_parameters)

    def parameters_as_given(self) -> dict[str, Any]:
        """Constructor parameter → the value it was given."""
        own = constructor_parameters(type(self))
        return {name: self._given_name if name == "loss_name" else getattr(self, name) for name in own}

    def to_config(self) -> dict[str, Any]:
        """The config from which `build_loss` builds this loss again: plain numbers, strings and lists."""
        config = {"type": LOSSES.name_of(type(self))}
        return config | {name: self._plain(name, value) for name, value in self.parameters_as_given().items()}

    def extra_repr(self) -> str:
        defaults = constructor_parameters(type(self))
        shown = []
        for name, value in self.parameters_as_given().items():
            value = self._plain(name, value)
            if name in OPTIONS and value == defaults[name].default:
                continue
            shown.append(f"{name}={value!r}")
        return ", ".join(shown)

    @staticmethod
    def _plain(name: str, value: Any) -> Any:
        return plain(number_of(value) if name == "loss_weight" else value)


flatten_constructor(BaseLoss)
OPTIONS: tuple[str, ...] = tuple(constructor_parameters(BaseLoss))
"""Names of the options that every loss takes."""
