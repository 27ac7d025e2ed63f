"""`BaseLoss`: weights, masks, precision and reduction of every loss, once."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, TypedDict, final

import torch
from torch import Tensor

from losses_core._descriptions import own_code, plain, snake_case
from losses_core._signature import call_parameters, constructor_parameters, flatten_constructor
from losses_core._suggest import did_you_mean
from losses_core._vectors import PerClassVectors
from losses_core.distributed import ProcessGroup, compute_all, world_size
from losses_core._reduce import reduce_call
from losses_core.errors import ConfigError, InputError
from losses_core.kernels import Definition, definition_of
from losses_core.registry import LOSSES
from losses_core.utils import checks
from losses_core.utils.autograd import hide_gradient
from losses_core.utils.deferred import Deferred
from losses_core.utils.precision import (
    autocast_active,
    map_tensors,
    match_dtype,
    nothing_to_cast,
    upcast,
    without_autocast,
)
from losses_core.utils.weight_reduce import (
    REDUCTIONS,
    Group,
    Reduction,
    Unreduced,
    align,
    apply_weight,
    check_reduction,
    partial_reduce,
)

if TYPE_CHECKING:
    from losses_core.examples import Example


_NOTHING = contextlib.nullcontext()


class CommonOptions(TypedDict, total=False):
    """Options of every loss but ``reduction``: for classes that declare a ``reduction`` set of their own."""

    loss_weight: float
    avg_factor: float | None
    loss_name: str | None
    sync_dist: bool


class LossOptions(CommonOptions, total=False):
    """Options that every loss takes by keyword (``**options: Unpack[LossOptions]``)."""

    reduction: str


class BaseLoss(PerClassVectors):
    r"""Base of every loss: a subclass computes the unreduced loss, everything around it happens here.

    A call runs these steps, in this order: half-precision inputs are cast to float32 and autocast is switched off;
    ``_forward`` gives the loss of each element; the sample weight multiplies it; it is reduced; ``loss_weight``
    multiplies the result.

    .. math::
        \text{mean} = \frac{\sum_i w_i \, l_i}{\sum_i m_i}, \qquad
        \text{sum} = \sum_i w_i \, l_i, \qquad \text{none} = w_i \, l_i

    with :math:`m_i` the normalizer of an element: 1, the class weight of its label, or 0 where it is ignored. ``avg_factor``
    replaces the denominator. A denominator that is not positive counts as 1: an empty or fully ignored batch costs 0.

    Subclasses define ``__init__`` (its parameters stored under their own names, ``**options: Unpack[LossOptions]``
    passed on) and ``_forward(pred, target, *, keywords)``. A keyword of ``_forward`` may be given at the call; one that
    is also a constructor parameter falls back to the constructor's value.

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

    reductions: ClassVar[tuple[str, ...]] = REDUCTIONS
    """The reductions that this class knows."""

    class_axis: ClassVar[int | None] = None
    """The axis of ``pred`` that ``_forward`` sums away in the middle of the shape: 1 for (N,C,*S) → (N,*S)."""

    example: ClassVar[Example | None] = None
    """The kind of inputs to try this class with, of `losses_core.examples`: for `losses probe` and `losses plot`."""

    function: ClassVar[Callable[..., Any] | None] = None
    """The definition of this loss (`losses_core.kernels.definition`): the class adds weights and a reduction to it.
    Its options are the constructor's parameters of the same names; others are keywords of a call."""

    per_call: ClassVar[tuple[str, ...]] = ("ignore_index",)
    """Constructor parameters that may also be given at a call."""

    internal_options: ClassVar[tuple[str, ...]] = ()
    """Options of `function` that the class itself gives, in `_arguments`: neither parameters nor keywords."""

    _call_parameters: ClassVar[dict[str, Any]] = {}
    _definition: ClassVar[Definition | None] = None
    _function_options: ClassVar[tuple[str, ...]] = ()

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
            hint = did_you_mean(name, constructor_parameters(type(self)))
            raise TypeError(f"{type(self).__name__} has no parameter {name!r}.{hint}")
        self.loss_weight = checks.number(self, "loss_weight", loss_weight)
        self.reduction = checks.choice(self, "reduction", reduction, self.reductions)
        self.avg_factor = None if avg_factor is None else checks.number(self, "avg_factor", avg_factor, above=0)
        self.loss_name = checks.text(self, "loss_name", loss_name)
        self.sync_dist = checks.flag(self, "sync_dist", sync_dist)
        self.process_group: ProcessGroup | None = None
        if reduction == "sum" and avg_factor is not None:
            raise ConfigError(f"{type(self).__name__}: reduction='sum' takes no avg_factor; use reduction='mean'.")

    def _forward(self, *args: Any, **kwargs: Any) -> Tensor | Unreduced | Deferred:
        """Compute the unreduced loss of ``(pred, target, **keywords)``, in the precision of ``pred``.

        For a class without a `function`.
        """
        raise TypeError(f"{type(self).__name__} computes its loss by its function.")

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
        if not isinstance(loss_weight, float | int):  # a learnable one gets a gradient
            (value,) = compute_all([self._evaluate(pred, target, weight, avg_factor, reduction_override, **kwargs)])
            return value * loss_weight
        result = self._evaluate(
            pred, target, weight, avg_factor, reduction_override, _scale=float(loss_weight), **kwargs
        )
        return result.compute() if result.group is None else compute_all([result])[0]

    def _evaluate(
        self,
        pred: Any,
        target: Any,
        weight: Tensor | None = None,
        avg_factor: float | Tensor | None = None,
        reduction_override: str | None = None,
        *,
        _scale: float = 1.0,
        **kwargs: Any,
    ) -> Reduction:
        """Everything of a call but what needs other ranks; times ``_scale``."""
        keywords = self._keywords(kwargs)
        reduction = self.reduction if reduction_override is None else reduction_override
        if avg_factor is None:
            avg_factor = self.avg_factor
        try:
            if reduction not in self.reductions:
                check_reduction(reduction, self.reductions)
            if self._definition is not None:
                return self._evaluate_function(pred, target, weight, reduction, avg_factor, keywords, _scale)
            if nothing_to_cast(pred, target):  # the usual case, without a detour
                reference = pred
            else:
                pred = upcast(pred)
                reference = checks.floating(pred)
                target = match_dtype(upcast(target), reference.dtype)
            if autocast_active(reference):
                with without_autocast(reference.device.type):
                    result = self._reduced(pred, target, weight, reference, reduction, avg_factor, keywords)
            else:
                result = self._reduced(pred, target, weight, reference, reduction, avg_factor, keywords)
            return result._replace(scale=_scale)
        except InputError as error:
            error.where = type(self).__name__
            raise

    def _reduced(
        self,
        pred: Any,
        target: Any,
        weight: Tensor | None,
        reference: Tensor,
        reduction: str,
        avg_factor: float | Tensor | None,
        keywords: dict[str, Any],
    ) -> Reduction:
        """``_forward`` of inputs in the precision of ``reference``, the weights, and the sums."""
        if weight is not None:
            checks.tensor("weight", weight)
            weight = self._map_weight(weight.to(reference.dtype), pred, target)
            pred = self._hide(pred, weight)
        result = self._forward(pred, target, **keywords)
        if not isinstance(result, (Tensor, Unreduced)):  # asked this way round, as Deferred is slow to ask for
            if weight is None and reduction != "none" and result.summable:
                return self._grouped(result.partial_reduce(reduction, avg_factor), False)
            result = result.unreduced()
        value, normalizer, already_global = result if isinstance(result, Unreduced) else Unreduced(result)
        if weight is not None:
            value = apply_weight(value, weight)
        return self._grouped(partial_reduce(value, normalizer, reduction, avg_factor), already_global)

    def _evaluate_function(
        self,
        pred: Any,
        target: Any,
        weight: Tensor | None,
        reduction: str,
        avg_factor: float | Tensor | None,
        keywords: dict[str, Any],
        scale: float,
    ) -> Reduction:
        """The same for a class whose loss is a definition: a kernel may run, which casts and reduces by itself."""
        declared: Definition = self._definition  # type: ignore[assignment]  # it is there
        reference = checks.floating(pred)
        with without_autocast(reference.device.type) if autocast_active(reference) else _NOTHING:
            pred, target, options = self._arguments(pred, target, self._options(reference, keywords))
            call = declared.bind(pred, target, options)
            if weight is not None:
                checks.tensor("weight", weight)
                dtype = torch.float64 if reference.dtype == torch.float64 else torch.float32
                weight = self._map_weight(weight.to(dtype), pred, target)
            group = Group(self.process_group) if self.sync_dist and self._synchronises() else None
            return reduce_call(call, weight, reduction, avg_factor, scale, group)

    def _options(self, pred: Tensor, keywords: Mapping[str, Any]) -> dict[str, Any]:
        """Options of `function` for a call: its keywords, else the constructor's parameters of the same names."""
        options = {}
        for name in self._function_options:
            if name in keywords:
                options[name] = keywords[name]
            elif name in self._vectors:
                options[name] = self._vector(name, pred, pred.shape[1] if pred.ndim > 1 else 1)
            else:
                options[name] = getattr(self, name)
        return options

    def _arguments(self, pred: Any, target: Any, options: dict[str, Any]) -> tuple[Any, Any, dict[str, Any]]:
        """Change the arguments of `function`, where a class takes others than its function."""
        return pred, target, options

    def _grouped(self, own: Reduction, already_global: bool) -> Reduction:
        """What is this rank's part only, with the ranks to sum it over."""
        if already_global or not self.sync_dist or not self._synchronises():
            return own
        return Reduction(own.summed(), own.denominator, own.reduction, Group(self.process_group))

    def _synchronises(self) -> bool:
        """Whether this call is to be normalised over more ranks than this one."""
        return self.sync_dist and world_size(self.process_group) > 1

    def _keywords(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Call keywords for ``_forward``: the given ones, else the constructor's, else the declared defaults."""
        declared = self._call_parameters
        for name in given:
            if name not in declared:
                known = ["weight", "avg_factor", "reduction_override", *declared]
                raise TypeError(
                    f"{type(self).__name__}: unknown keyword {name!r}.{did_you_mean(name, known)} "
                    f"The call takes pred, target, {', '.join(known)}."
                )
        keywords = {}
        for name, default in declared.items():
            if name in given:
                keywords[name] = given[name]
            elif default is not inspect.Parameter.empty:
                keywords[name] = default
            else:
                try:
                    keywords[name] = getattr(self, name)
                except AttributeError:
                    raise TypeError(f"{type(self).__name__}: the call needs {name}=.") from None
        return keywords

    def _map_weight(self, weight: Tensor, pred: Any, target: Any) -> Tensor:
        """Map the weight shapes a family documents to the loss's shape; refuse here what a loss cannot weight."""
        return weight

    def _on_pred(self, weight: Tensor, pred: Tensor) -> Tensor | None:
        """View a weight of the loss so that it broadcasts over ``pred``, or None where the two do not correspond."""
        if self.class_axis is None:
            return align(weight, pred.shape)
        shape = list(pred.shape)
        del shape[self.class_axis]
        aligned = align(weight, shape)
        return None if aligned is None else aligned.unsqueeze(self.class_axis)

    def _hide(self, pred: Any, weight: Tensor) -> Any:
        """Keep the gradient at elements of weight zero exactly zero, whatever ``pred`` holds there."""

        def hide(tensor: Tensor) -> Tensor:
            aligned = self._on_pred(weight, tensor)
            return tensor if aligned is None else hide_gradient(tensor, aligned == 0)

        return map_tensors(hide, pred)

    @property
    def label(self) -> str:
        """The name of this loss in logs."""
        return self.loss_name or snake_case(type(self).__name__)

    @classmethod
    def call_keywords(cls) -> frozenset[str]:
        """The keywords a call takes beside weight, avg_factor and reduction_override."""
        return frozenset(cls._call_parameters)

    def parameters_as_given(self) -> dict[str, Any]:
        """Constructor parameter → the value it was given."""
        return {name: getattr(self, name) for name in constructor_parameters(type(self))}

    def to_config(self) -> dict[str, Any]:
        """The config from which `build_loss` builds this loss again: plain numbers, strings and lists."""
        config = {"type": LOSSES.name_of(type(self))}
        return config | {name: plain(value) for name, value in self.parameters_as_given().items()}

    def extra_repr(self) -> str:
        defaults = constructor_parameters(type(self))
        shown = []
        for name, value in self.parameters_as_given().items():
            if name in OPTIONS and value == defaults[name].default:
                continue
            shown.append(f"{name}={plain(value)!r}")
        return ", ".join(shown)


flatten_constructor(BaseLoss)
OPTIONS: tuple[str, ...] = tuple(constructor_parameters(BaseLoss))
"""Names of the options that every loss takes."""
