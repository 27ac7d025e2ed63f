"""What happens in a call of a loss: keywords, options, weights, and the way to the reduced value."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from losses_core._blocks import Layout, value_shape
from losses_core._definitions import Definition, LossCall
from losses_core._options import NamedLoss
from losses_core._reduce import reduce_call
from losses_core._suggest import did_you_mean
from losses_core._vectors import PerClassVectors
from losses_core.distributed import ProcessGroup, world_size
from losses_core.errors import InputError
from losses_core.utils import checks
from losses_core.utils.autograd import zero_grad_where
from losses_core.utils.precision import autocast_active, map_tensors, without_autocast
from losses_core.utils.weight_reduce import REDUCTIONS, Group, Reduction, Unreduced, align, check_reduction


class Evaluation(NamedLoss, PerClassVectors):
    """The part of `losses_core.BaseLoss` that runs at each call."""

    avg_factor: float | None
    reduction: str
    sync_dist: bool
    process_group: ProcessGroup | None

    reductions: ClassVar[tuple[str, ...]] = REDUCTIONS
    """The reductions that this class knows."""

    class_axis: ClassVar[int | None] = None
    """The axis of ``pred`` that ``_forward`` reduces: 1 for (N,C,*S) → (N,*S), or None."""

    function: ClassVar[Callable[..., Any] | None] = None
    """The definition of this loss (`losses_core.kernels.definition`): the class adds weights and a reduction to it.
    Its options are the constructor's parameters of the same names; others are keywords of a call."""

    pred_may_be_list: ClassVar[bool] = False
    """Whether `function` takes a list or tuple of tensors as pred too."""

    per_call: ClassVar[tuple[str, ...]] = ("ignore_index",)
    """Constructor parameters that may also be given at a call."""

    internal_options: ClassVar[tuple[str, ...]] = ()
    """Options of `function` that the class itself gives, in `_arguments`: neither parameters nor keywords."""

    # read of the class, not of the instance: a strict export of torch 2.6 finds none of these in a module
    _call_parameters: ClassVar[dict[str, Any]] = {}
    _definition: ClassVar[Definition | None] = None
    _function_options: ClassVar[tuple[str, ...]] = ()

    def _forward(self, *args: Any, **kwargs: Any) -> Tensor | Unreduced:
        """Compute the unreduced loss of ``(pred, target, **keywords)``, in the precision of ``pred``.

        For a class without a `function`.
        """
        raise TypeError(f"{type(self).__name__} computes its loss by its function.")

    def _evaluate(
        self,
        pred: Any,
        target: Any,
        weight: Tensor | None = None,
        avg_factor: float | Tensor | None = None,
        reduction_override: str | None = None,
        *,
        _scale: float | None = 1.0,
        **kwargs: Any,
    ) -> Reduction:
        """Everything of a call but what needs other ranks; times ``_scale``.

        None in its place: numerator and denominator of a part of a batch, to be added to those of others.
        """
        keywords = self._keywords(kwargs)
        reduction = self.reduction if reduction_override is None else reduction_override
        if avg_factor is None and _scale is not None:
            avg_factor = self.avg_factor
        try:
            if reduction not in self.reductions:
                check_reduction(reduction, self.reductions)
            return self._evaluate_function(pred, target, weight, reduction, avg_factor, keywords, _scale)
        except InputError as error:
            error.where = type(self).__name__
            raise

    def _evaluate_function(
        self,
        pred: Any,
        target: Any,
        weight: Tensor | None,
        reduction: str,
        avg_factor: float | Tensor | None,
        keywords: dict[str, Any],
        scale: float | None,
    ) -> Reduction:
        """The same with everything given."""
        declared = type(self)._definition
        several = self.pred_may_be_list or declared is None
        reference = checks.first_floating(pred) if several else checks.floating(pred)
        if autocast_active(reference):
            with without_autocast(reference.device.type):
                return self._evaluate_function(pred, target, weight, reduction, avg_factor, keywords, scale)
        if declared is None:
            call = LossCall(self._by_forward(), pred, target, keywords)
        else:
            pred, target, options = self._arguments(pred, target, self._options(reference, keywords))
            call = declared.bind(pred, target, options)
        if weight is not None:
            checks.tensor("weight", weight)
            dtype = torch.float64 if reference.dtype == torch.float64 else torch.float32
            weight = self._map_weight(weight.to(dtype), pred, target)
        apart = scale is None or (self.sync_dist and self._synchronises())
        group = Group(self.process_group) if apart else None
        return reduce_call(call, weight, reduction, avg_factor, 1.0 if scale is None else scale, group, self._mask)

    def _by_forward(self) -> Definition:
        """``_forward`` in the place of a definition."""
        layout: Layout = "elements" if self.class_axis is None else "classes"
        return Definition(type(self).__name__, self._forward, layout)

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

    def _synchronises(self) -> bool:
        """Whether this call is to be normalised over more ranks than this one."""
        return self.sync_dist and world_size(self.process_group) > 1

    def _keywords(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Call keywords for ``_forward``: the given ones, else the constructor's, else the declared defaults."""
        declared = type(self)._call_parameters
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
        layout = (type(self)._definition or self._by_forward()).layout
        shape = value_shape(layout, pred)
        aligned = align(weight, pred.shape if shape is None else shape)
        if aligned is None or layout not in ("classes", "last"):
            return aligned
        return aligned.unsqueeze(1 if layout == "classes" else -1)

    def _mask(self, pred: Any, weight: Tensor) -> Any:
        """Make the gradient at elements of weight zero exactly zero, whatever ``pred`` holds there."""

        def mask(tensor: Tensor) -> Tensor:
            aligned = self._on_pred(weight, tensor)
            return tensor if aligned is None else zero_grad_where(tensor, aligned == 0)

        return map_tensors(mask, pred)
