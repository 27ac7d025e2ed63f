"""A dry run of a loss on drawn inputs: time, memory and gradient of each term."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from losses_core._memory import PeakMemory
from losses_core._options import number_of
from losses_core._paths import Inputs
from losses_core._routing import REQUIRED, look_up
from losses_core._suggest import did_you_mean
from losses_core.base_loss import BaseLoss
from losses_core.combined import CombinedLoss, Member
from losses_core.errors import ConfigError, InputError, LossesError
from losses_core.examples import Draw, Example, Shape
from losses_core.utils.precision import map_tensors
from losses_core.utils.value_checks import debug

WARM_UP, WARM_UP_SECONDS = 5, 0.2
RUNS, SECONDS = 25, 1.0
"""A term is run and timed at most this often, and for at most this long; each at least once."""

DOMINATES = 2.0
"""A gradient so many times the mean of the others dominates."""


class Shapes(NamedTuple):
    """The shapes that the user gave: label → shape; the label "" stands for every term."""

    pred: Mapping[str, Shape] = {}
    target: Mapping[str, Shape] = {}


class Term(NamedTuple):
    """One loss of a combined loss.

    Attributes:
        label: Dotted where it is nested.
        loss: The loss.
        paths: Its `inputs`.
        factor: The `loss_weight` of the combinations that it is in.
    """

    label: str
    loss: BaseLoss
    paths: Mapping[str, str]
    factor: float = 1.0


class Measured(NamedTuple):
    """The measurements of a term.

    Attributes:
        label: The term.
        value: Its weighted value.
        gradient: Norm of its gradient with respect to its pred.
        dtype: Of its result.
        seconds: One forward and backward after a warm-up, the median of some.
        peak_bytes: Most memory that tensors took in them, beside the inputs.
        loss_weight: The weight of the term.
    """

    label: str
    value: float
    gradient: float
    dtype: str
    seconds: float
    peak_bytes: int
    loss_weight: float


class Verdict(NamedTuple):
    """What the gradients imply for the weights.

    Attributes:
        dominant: The term that dominates, if one does.
        balanced_weight: The `loss_weight` with which its gradient would be the mean of the others.
        text: The same in words.
    """

    dominant: str | None
    balanced_weight: float | None
    text: str


def terms_of(criterion: Member, prefix: str = "", factor: float = 1.0) -> list[Term]:
    """The terms of a combined loss and of those in it; a single loss is its own."""
    if isinstance(criterion, BaseLoss):
        return [Term(criterion.label, criterion, {})]
    factor *= number_of(criterion.loss_weight)
    terms: list[Term] = []
    for label, member in criterion.items():
        if isinstance(member, CombinedLoss):
            terms += terms_of(member, f"{prefix}{label}.", factor)
        else:
            terms.append(Term(f"{prefix}{label}", member, criterion.inputs.get(label, {}), factor))
    return terms


def inputs_of(terms: list[Term], shapes: Shapes, dtype: torch.dtype = torch.float32, seed: int = 0) -> list[Inputs]:
    """Draw inputs for each term.

    Terms that predict from one tensor get the same. What `inputs` name is looked up in one nested mapping, which the
    first term that names a path fills.

    Raises:
        ConfigError: A shape for a term that is not there.
        InputError: No inputs can be drawn for a term, or its `inputs` lead nowhere.
    """
    labels = [term.label for term in terms]
    for given in shapes:
        for label in given:
            if label and label not in labels:
                raise ConfigError(
                    f"there is no term {label!r}.{did_you_mean(label, labels)} The terms are: {', '.join(labels)}."
                )
    data: dict[str, Any] = {}
    found = []
    for term, shape in zip(terms, _pred_shapes(terms, shapes), strict=True):
        target = shapes.target.get(term.label, shapes.target.get(""))
        try:
            inputs = _example(term.loss, shape, target).inputs(term.loss, shape, target, seed)
        except InputError as error:
            error.where = f"term {term.label!r}"
            raise
        cast = [map_tensors(lambda x: x.to(dtype) if x.is_floating_point() else x, part) for part in inputs[:2]]
        arguments = {**dict(zip(REQUIRED, cast, strict=True)), **inputs.call}
        if term.paths:
            for name, path in term.paths.items():
                if name in arguments:
                    _fill(data, path.split("."), arguments[name], f"term {term.label!r}: inputs.{name}")
            arguments = {
                name: look_up(data, tuple(path.split(".")), term.label, name)
                for name, path in term.paths.items()
                if name in arguments  # weight, avg_factor: the run goes without
            }
        found.append(Inputs(arguments.pop("pred"), arguments.pop("target"), arguments))
    return found


def batch_inputs(terms: list[Term], batch: Mapping[str, Any]) -> list[Inputs]:
    """The arguments of each term in a batch: the tensors that its `inputs` name, or ``pred``, ``target`` and keywords.

    Raises:
        InputError: A term does not find its tensors.
    """
    found = []
    for term in terms:
        if term.paths:
            arguments = {n: look_up(batch, tuple(path.split(".")), term.label, n) for n, path in term.paths.items()}
        else:
            names = (*REQUIRED, "weight", "avg_factor", *type(term.loss).call_keywords())
            arguments = {name: batch[name] for name in names if name in batch}
        missing = [name for name in REQUIRED if name not in arguments]
        if missing:
            keys = ", ".join(map(repr, batch))
            raise InputError(
                f"the batch has no {' and no '.join(map(repr, missing))}; it has {keys}.", f"term {term.label!r}"
            )
        found.append(Inputs(arguments.pop("pred"), arguments.pop("target"), arguments))
    return found


def _example(loss: BaseLoss, pred: Shape | None, target: Shape | None) -> Example:
    if loss.example is not None:
        return loss.example
    if pred is None:
        raise InputError(
            f"{type(loss).__name__} does not say what inputs it takes. Give shapes, as --pred 8x10 --target 8 (with "
            "fewer axes: class indices), or the class an example, as example = losses_core.examples.LABELS."
        )
    return Example(_by_shape, pred)


def _by_shape(loss: Any, draw: Draw) -> Inputs:
    """Numbers; for a target of another number of axes, indices into axis 1 of pred."""
    pred = draw.normal(draw.pred)
    if draw.target is None or len(draw.target) == len(draw.pred):
        return Inputs(pred, draw.normal(draw.target or draw.pred))
    return Inputs(pred, draw.labels(draw.pred[1] if len(draw.pred) > 1 else 2, draw.target))


def _pred_shapes(terms: list[Term], shapes: Shapes) -> Iterator[Shape | None]:
    """For each term the shape of pred that was given, or that of its group."""
    for term in terms:
        given = shapes.pred.get(term.label, shapes.pred.get(""))
        example = term.loss.example
        if given is not None or example is None or not example.group:
            yield given
            continue
        group = [(t.label, t.loss, t.loss.example) for t in terms if t.loss.example is not None]
        group = [other for other in group if other[2].group == example.group]
        shape = max((other.shape for _, _, other in group), key=len)
        sizes = (other.size(loss) for _, loss, other in group)
        size = next((size for size in sizes if size is not None), shape[1])
        given = next((shapes.pred[label] for label, _, _ in group if label in shapes.pred), None)
        yield given or (shape[0], size, *shape[2:])


def _fill(data: dict[str, Any], path: list[str], value: Any, where: str) -> None:
    """Put a value at a place of nested mappings where there is none yet; a number in the path is a key as well."""
    *parents, last = path
    for key in parents:
        data = data.setdefault(key, {})
        if not isinstance(data, dict):
            raise InputError(f"{'.'.join(path)!r} leads through {key!r}, which is a tensor for another term.", where)
    if isinstance(data.setdefault(last, value), dict):
        raise InputError(f"expected a tensor at {'.'.join(path)!r}, which is a mapping for another term.", where)


def measure(term: Term, inputs: Inputs) -> Measured:
    """Run a term forward and backward: with values checked, then with memory counted, then timed."""
    preds: list[Tensor] = []

    def leaf(tensor: Tensor) -> Tensor:
        preds.append(tensor.detach().clone().requires_grad_(tensor.is_floating_point()))
        return preds[-1]

    pred = map_tensors(leaf, inputs.pred)

    def run() -> tuple[Tensor, Sequence[Tensor]]:
        try:
            value = term.loss(pred, inputs.target, **inputs.call)
        except Exception as error:  # whatever a loss raises, the dry run found it in this term
            kind = "" if isinstance(error, (LossesError, TypeError)) else f"{type(error).__name__}: "
            raise InputError(f"{kind}{error}", f"term {term.label!r}") from error
        if value.ndim:
            raise InputError(f"reduction={term.loss.reduction!r} gives no scalar.", f"term {term.label!r}")
        wanted = [tensor for tensor in preds if tensor.requires_grad]
        return value, torch.autograd.grad(value, wanted, materialize_grads=True) if value.requires_grad else ()

    with debug():
        value, gradients = run()  # also fills caches, and makes parts that are made lazily
    norm = math.sqrt(sum(float(gradient.double().norm()) ** 2 for gradient in gradients))
    with PeakMemory() as memory:
        run()
    _times(run, WARM_UP, WARM_UP_SECONDS)
    return Measured(
        term.label,
        value.item() * term.factor,
        norm * abs(term.factor),
        str(value.dtype).removeprefix("torch."),
        statistics.median(_times(run, RUNS, SECONDS)),
        memory.peak,
        number_of(term.loss.loss_weight),
    )


def _times(run: Callable[[], object], runs: int, seconds: float) -> list[float]:
    """The time of each run, until there were so many or they took so long."""
    times: list[float] = []
    while len(times) < runs and sum(times) < seconds:
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return times


def verdict(terms: Sequence[Measured]) -> Verdict:
    """Say whether one term dominates the gradient, and which weight would balance it."""
    if len(terms) == 1:
        return Verdict(None, None, "One term: there is nothing to balance.")
    unusable = [term for term in terms if not math.isfinite(term.gradient)]
    if unusable:
        return Verdict(None, None, f"{_listed(unusable)}: the gradient is not finite.")
    flat = [term for term in terms if not term.gradient]
    note = f" {_listed(flat)}: no gradient." if flat else ""
    pulling = [term for term in terms if term.gradient]
    if len(pulling) < 2:
        return Verdict(None, None, f"At most one term has a gradient: there is nothing to balance.{note}")
    largest = max(pulling, key=lambda term: term.gradient)
    mean = statistics.fmean(term.gradient for term in pulling if term is not largest)
    ratio = largest.gradient / mean
    others = f"the mean of the other {len(pulling) - 1}" if len(pulling) > 2 else "that of the other term"
    if ratio <= DOMINATES:
        text = f"Balanced: the largest gradient, of {largest.label!r}, is {ratio:.2g} times {others}.{note}"
        return Verdict(None, None, text)
    weight = largest.loss_weight / ratio
    return Verdict(
        largest.label,
        weight,
        f"{largest.label!r} dominates: its gradient is {ratio:.3g} times {others}. "
        f"loss_weight: {weight:.2g} instead of {largest.loss_weight:g} would balance it.{note}",
    )


def _listed(terms: Sequence[Measured]) -> str:
    return ", ".join(repr(term.label) for term in terms)
