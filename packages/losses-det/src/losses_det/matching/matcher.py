"""The Hungarian matcher."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from losses_core.errors import ConfigError, InputError, did_you_mean
from losses_core.utils import checks
from losses_core.utils.boxes import BOX_FORMATS, BoxFormat
from losses_core.utils.precision import autocast_active, upcast, without_autocast
from losses_det.matching._inputs import PRED, TARGET, Batch, read
from losses_det.matching._solver import Array, SolverName, replace_nonfinite, solver_named
from losses_det.matching.costs import (
    COSTS,
    Field,
    check_limits,
    options_of,
    pairwise_cost,
    unknown_option,
    verify_labels,
)
from losses_det.matching.matches import Matches


class HungarianMatcher(nn.Module):
    r"""One-to-one matching of predictions with targets that has the least total cost.

    .. math:: \hat\sigma = \arg\min_\sigma \sum_j \sum_k w_k \, c_k(\text{pred}_{\sigma(j)}, \text{target}_j)

    Use when: training a detector whose predictions are a set, as DETR and its successors are.

    All layers and images are computed together, on the device of the predictions. The costs are copied to the CPU in
    one transfer, the only synchronization, and the indices are copied back in one. Nothing has a gradient, and there
    are no parameters.

    Args:
        costs: cost → weight ≥ 0, or a mapping with ``weight`` (default 1) and options of `pairwise_cost`. RT-DETR:
            ``{focal: 2, l1: 5, giou: 2}``; DETR: ``{softmax: 1, l1: 5, giou: 2}``; Mask2Former: ``{softmax: 2,
            mask_bce: 5, mask_dice: 5}``. A cost of weight 0 is not computed.
        bbox_format: format of all boxes, for the costs of the IoU family. Default: ``cxcywh``.
        nonfinite: ``raise`` an error where a cost is inf or NaN, or ``replace`` it by a number so high that the pair is
            chosen only where nothing else is left. Default: ``raise``.
        solver: ``scipy``; ``own``, which is slower and needs numpy alone; ``auto``: scipy if it is installed. The total
            costs are equal. Default: ``auto``.

    Shape:
        - pred: a mapping with what the costs need: ``logits`` (B,Q,C), ``boxes`` (B,Q,4), ``masks`` (B,Q,P) or
          (B,Q,H,W); also called ``pred_logits``, ``pred_boxes``, ``pred_masks``. All may have a layer axis before B.
        - target: a list with a mapping for each image: ``labels`` (M,), also called ``class_labels``, ``boxes`` (M,4),
          ``masks`` (M,P) or (M,H,W). M may be 0, and larger than Q.
        - groups: each block of Q / groups queries is matched by itself (Group DETR). Default: 1.

    Returns:
        `Matches`: ``matches[b]`` is the pair of indices (pred, target) of image b; with layers ``matches[l][b]``.

    Raises:
        ConfigError: an unknown cost or option, an option outside its range, no positive weight.
        InputError: wrong shapes, a label outside the classes, a cost that is not finite.
        ImportError: ``scipy`` is asked for and not installed.

    Example:
        >>> import torch
        >>> matcher = HungarianMatcher({"focal": 2, "l1": 5, "giou": 2})
        >>> boxes = torch.tensor([[0.5, 0.5, 0.1, 0.1], [0.5, 0.5, 0.5, 0.5], [0.5, 0.5, 0.9, 0.9]])
        >>> target = [{"labels": torch.tensor([0, 1]), "boxes": boxes[[2, 0]]}]
        >>> matcher({"logits": torch.zeros(1, 3, 2), "boxes": boxes[None]}, target)[0]
        (tensor([0, 2]), tensor([1, 0]))

    References:
        Carion et al., End-to-End Object Detection with Transformers, ECCV 2020, arXiv 2005.12872.
        Chen et al., Group DETR, ICCV 2023, arXiv 2207.13085 (groups).
    """

    def __init__(
        self,
        costs: Mapping[str, float | Mapping[str, Any]],
        *,
        bbox_format: BoxFormat = "cxcywh",
        nonfinite: Literal["raise", "replace"] = "raise",
        solver: SolverName = "auto",
    ) -> None:
        super().__init__()
        self.costs = costs
        self.bbox_format = checks.choice(self, "bbox_format", bbox_format, BOX_FORMATS)
        self.nonfinite = checks.choice(self, "nonfinite", nonfinite, ("raise", "replace"))
        self.solver = checks.choice(self, "solver", solver, ("auto", "scipy", "own"))
        self._terms = self._read_costs(costs)
        self._solve = solver_named(solver)

    def _read_costs(self, costs: Any) -> list[tuple[str, float, dict[str, Any]]]:
        """Name, weight and options of each cost whose weight is not 0."""
        if not isinstance(costs, Mapping):
            raise TypeError(f"HungarianMatcher: costs: expected a mapping, cost → weight; got {type(costs).__name__}.")
        terms = []
        for name, value in costs.items():
            if name not in COSTS:
                raise ConfigError(
                    f"HungarianMatcher: costs: expected {', '.join(COSTS)}; got {name!r}.{did_you_mean(name, COSTS)}"
                )
            options = dict(value) if isinstance(value, Mapping) else {"weight": value}
            options = {option: _number_of(setting) for option, setting in options.items()}
            weight = checks.number(self, f"costs.{name}", options.pop("weight", 1.0), low=0)
            self._check_options(name, options)
            if weight > 0:
                terms.append((name, float(weight), options))
        if not terms:
            raise ConfigError(f"HungarianMatcher: costs: expected at least one with a weight > 0; got {dict(costs)!r}.")
        return terms

    def _check_options(self, name: str, options: dict[str, Any]) -> None:
        for option in options:
            if option not in options_of(name) or option == "spatial_dims":  # known from the targets
                raise ConfigError(f"HungarianMatcher: costs: {unknown_option(name, option)}")
        if "bbox_format" in options_of(name):
            options.setdefault("bbox_format", self.bbox_format)
        try:
            check_limits(name, options)
            if (loss := COSTS[name].loss) is not None:
                loss(**options)  # knows its limits
        except ConfigError as error:
            raise ConfigError(f"HungarianMatcher: costs.{name}: {error.text}") from error

    @torch.no_grad()
    def forward(self, pred: Mapping[str, Tensor], target: Sequence[Mapping[str, Tensor]], groups: int = 1) -> Matches:
        """Match the predictions of a batch with its targets; see the class."""
        with _named():
            batch = self._read(pred, target)
            if not _divides(groups, batch.queries):
                raise InputError(f"groups: expected a divisor of the {batch.queries} queries; got {groups!r}.")
            cost = self._cost(batch)
            table: Array = cost.cpu().numpy().reshape(math.prod(batch.lead), *cost.shape[-2:])
            finite = bool(np.isfinite(table).all())
            if not finite:
                self._check_finite(table, batch)
        return self._assign(table, batch, groups, finite)

    @torch.no_grad()
    def cost(self, pred: Mapping[str, Tensor], target: Sequence[Mapping[str, Tensor]]) -> Tensor:
        """The cost of every pair, (…,B,Q,M), M the largest number of targets of an image; 0 where there is no target.

        Args:
            pred: as for a call.
            target: as for a call.
        """
        with _named():
            return self._cost(self._read(pred, target))

    def extra_repr(self) -> str:
        """Parameters, for ``print``."""
        return f"{self.costs}, bbox_format={self.bbox_format!r}, nonfinite={self.nonfinite!r}, solver={self.solver!r}"

    def _read(self, pred: Any, target: Any) -> Batch:
        batch = read(pred, target, {COSTS[name].field for name, _, _ in self._terms})
        if "labels" in batch.target:
            verify_labels(batch.target["labels"], batch.pred["labels"].shape[-1], _LABELS)
        return batch

    def _cost(self, batch: Batch) -> Tensor:
        reference = next(iter(batch.pred.values()))
        off = without_autocast(reference.device.type) if autocast_active(reference) else contextlib.nullcontext()
        with off:
            inputs = {field: _sides(field, batch) for field in batch.pred}
            total: Tensor | None = None
            for name, weight, options in self._terms:
                part = weight * self._term(name, *inputs[COSTS[name].field], options, batch)
                total = part if total is None else total + part
        assert total is not None
        return total.masked_fill(~batch.valid.unsqueeze(-2), 0)

    def _term(self, name: str, pred: Tensor, target: Tensor, options: dict[str, Any], batch: Batch) -> Tensor:
        if COSTS[name].field != "masks":
            return pairwise_cost(name, pred, target, **options)
        value = pairwise_cost(name, pred, target, **options, spatial_dims=1)
        if len(batch.lead) == 1:
            return value
        layers, images = batch.lead
        return value.view(images, layers, batch.queries, value.shape[-1]).transpose(0, 1)

    def _assign(self, table: Array, batch: Batch, groups: int, finite: bool) -> Matches:
        block, length, images = batch.queries // groups, table.shape[-1], batch.lead[-1]
        query = np.full((len(table), groups * length), -1, np.int64)
        pairs: list[Array] = [np.empty((3, 0), query.dtype)]
        counts = [0] * len(table)
        for index, costs in enumerate(table):
            image = index % images
            for group in range(groups):
                cost = costs[group * block : (group + 1) * block, : batch.sizes[image]].astype(np.float64)
                rows, columns = self._solve(cost if finite else replace_nonfinite(cost))
                rows = rows + group * block
                query[index, group * length + columns] = rows
                pairs.append(np.stack((np.full_like(rows, image), rows, columns)))
                counts[index] += len(rows)
        numbers = np.concatenate((query.ravel(), np.concatenate(pairs, 1).ravel()))
        device = next(iter(batch.pred.values())).device
        slots, indices = torch.from_numpy(numbers).to(device, non_blocking=True).split((query.size, 3 * sum(counts)))
        nested: list[Any] = counts
        if len(batch.lead) == 2:
            nested = [counts[layer * images : (layer + 1) * images] for layer in range(batch.lead[0])]
        return Matches(slots.view(*batch.lead, groups * length), indices.view(3, sum(counts)), nested)

    def _check_finite(self, table: Array, batch: Batch) -> None:
        """Say what is wrong with a cost that is not finite; here the device may be waited for."""
        if "labels" in batch.target:
            verify_labels(batch.target["labels"].cpu(), batch.pred["labels"].shape[-1], _LABELS)
        if self.nonfinite == "replace":
            return
        wrong = np.argwhere(~np.isfinite(table))
        index, query, slot = (int(i) for i in wrong[0])
        layer, image = divmod(index, batch.lead[-1])
        where = f"layer {layer}, image {image}" if len(batch.lead) == 2 else f"image {image}"
        held = [f"pred[{PRED[f][0]!r}]" for f, t in batch.pred.items() if not bool(t.isfinite().all())]
        held += [f"target[…][{TARGET[f][0]!r}]" for f, t in batch.target.items() if not bool(t.isfinite().all())]
        raise InputError(
            f"the cost in {where} is {table[index, query, slot]} between query {query} and target {slot}, "
            f"and of {len(wrong)} pairs in all not finite. "
            + (f"inf or NaN is in {' and '.join(held)}. " if held else "The inputs are finite: the cost overflows. ")
            + "With nonfinite='replace' such pairs are matched last."
        )


_LABELS = "labels (image, target)"


def _sides(field: Field, batch: Batch) -> tuple[Tensor, Tensor]:
    """Predictions and targets of a field as `pairwise_cost` takes them."""
    pred, target = batch.pred[field], batch.target[field]
    if field != "masks":
        return pred, target.expand(*batch.lead[:-1], *target.shape)
    pred, target = pred.flatten(len(batch.lead) + 1), target.flatten(2)
    if len(batch.lead) == 1:
        return upcast(pred), target  # once for all costs
    # (B, L·Q, P): a product for each image, without a copy of the masks for each layer
    dtype = torch.float64 if pred.dtype == torch.float64 else torch.float32
    pred = pred.transpose(0, 1).to(dtype, copy=True, memory_format=torch.contiguous_format)
    return pred.flatten(1, 2), target


def _divides(groups: Any, queries: int) -> bool:
    return isinstance(groups, int) and groups > 0 and queries % groups == 0


def _number_of(setting: Any) -> Any:
    """A string that is a number as a number: YAML reads ``1e-6`` as a string."""
    if isinstance(setting, str):
        with contextlib.suppress(ValueError):
            return float(setting)
    return setting


@contextlib.contextmanager
def _named() -> Iterator[None]:
    """Name the matcher in errors."""
    try:
        yield
    except InputError as error:
        error.where = f"HungarianMatcher: {error.where}" if error.where else "HungarianMatcher"
        raise
