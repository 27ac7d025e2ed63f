"""What a matcher is called with: checked, and targets padded to one number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from losses_core.errors import InputError, did_you_mean
from losses_core.utils import checks
from losses_det.matching.costs import Field

PRED: dict[Field, tuple[str, ...]] = {
    "labels": ("logits", "pred_logits"),
    "boxes": ("boxes", "pred_boxes"),
    "masks": ("masks", "pred_masks"),
}
TARGET: dict[Field, tuple[str, ...]] = {"labels": ("labels", "class_labels"), "boxes": ("boxes",), "masks": ("masks",)}
FIELDS: tuple[Field, ...] = ("labels", "boxes", "masks")
"""Masks last: their shape does not tell whether there are layers."""


class Batch(NamedTuple):
    """Predictions and padded targets.

    Attributes:
        lead: (B), or (L, B) with layers.
        queries: Q.
        sizes: number of targets of each image; M is the largest.
        pred: (…,B,Q,·) of each field.
        target: (B,M,·) of each field, 0 where there is no target.
        valid: (B,M), whether there is a target.
    """

    lead: tuple[int, ...]
    queries: int
    sizes: list[int]
    pred: dict[Field, Tensor]
    target: dict[Field, Tensor]
    valid: Tensor


def read(pred: Any, target: Any, needed: set[Field]) -> Batch:
    """Check what a matcher is called with, and pad the targets.

    Raises:
        InputError: it is not as documented.
    """
    fields = [field for field in FIELDS if field in needed]
    names = ", ".join(repr(PRED[field][0]) for field in fields)
    if not isinstance(pred, Mapping):
        stacked = " Stack layers to (L, B, Q, …)." if isinstance(pred, (list, tuple)) else ""
        raise InputError(f"expected pred as a mapping with {names}; got {type(pred).__name__}.{stacked}")
    if not isinstance(target, Sequence) or not all(isinstance(entry, Mapping) for entry in target):
        raise InputError(f"expected target as a list with a mapping for each image; got {type(target).__name__}.")
    given = {field: checks.floating(_find(pred, PRED[field], "pred")) for field in fields}
    found = {field: [_find(t, TARGET[field], f"target[{b}]") for b, t in enumerate(target)] for field in fields}
    lead, queries = _leading_axes(given, found)
    if len(target) != lead[-1]:
        raise InputError(f"expected target with {lead[-1]} mappings, one for each image of pred; got {len(target)}.")
    sizes: list[int] = []
    padded = {}
    for field in fields:
        shape = _row_shape(field, given[field], len(lead))
        name = TARGET[field][0]
        rows = [_rows(t, f"target[{b}][{name!r}]", shape, given[field], field) for b, t in enumerate(found[field])]
        for b, (before, tensor) in enumerate(zip(sizes, rows, strict=False)):
            if before != len(tensor):
                raise InputError(
                    f"expected target[{b}][{name!r}] with {before} rows, as many as "
                    f"target[{b}][{TARGET[fields[0]][0]!r}]; got {len(tensor)}."
                )
        sizes = [len(tensor) for tensor in rows]
        empty = {"labels": torch.long, "boxes": given[field].dtype, "masks": torch.bool}[field]
        padded[field] = _pad(rows, max(sizes, default=0), shape, given[field], empty)
    if "labels" in padded:
        padded["labels"] = padded["labels"].long()
    length, reference = max(sizes, default=0), given[fields[0]]
    ones = reference.new_ones(length, dtype=torch.bool)
    return Batch(
        lead, queries, sizes, given, padded, _pad([ones[:n] for n in sizes], length, (), reference, torch.bool)
    )


def _find(mapping: Mapping[str, Any], names: tuple[str, ...], where: str) -> Tensor:
    for name in names:
        if name in mapping:
            return checks.tensor(f"{where}[{name!r}]", mapping[name])
    hint = next(filter(None, (did_you_mean(key, names) for key in mapping)), "")
    has = ", ".join(map(repr, mapping)) or "nothing"
    raise InputError(f"expected {where} with {' or '.join(map(repr, names))}; it holds {has}.{hint}")


def _leading_axes(given: Mapping[Field, Tensor], found: Mapping[Field, list[Tensor]]) -> tuple[tuple[int, ...], int]:
    """(B) or (L, B), and Q."""
    lead: tuple[int, ...] | None = None
    queries = 0
    for field, tensor in given.items():
        axes = _mask_axes(tensor, found["masks"]) if field == "masks" else 1
        size = tensor.ndim - axes - 1 if lead is None else len(lead)
        fits = size in (1, 2) and tensor.ndim >= size + 2 and (field == "masks" or tensor.ndim == size + 2)
        fits = fits and (field != "boxes" or tensor.shape[-1] == 4)
        fits = fits and (lead is None or tuple(tensor.shape[: size + 1]) == (*lead, queries))
        if not fits:
            first = "(B, Q" if lead is None else f"({', '.join(map(str, (*lead, queries)))}"
            tail = {"labels": ", C)", "boxes": ", 4)", "masks": ", P) or " + first + ", H, W)"}[field]
            layers = ", with or without a layer axis before it" if lead is None else ""
            raise InputError(
                f"expected pred[{PRED[field][0]!r}] of shape {first}{tail}{layers}; got {tuple(tensor.shape)}."
            )
        lead, queries = tuple(tensor.shape[:size]), tensor.shape[size]
    assert lead is not None
    return lead, queries


def _mask_axes(pred: Tensor, targets: list[Tensor]) -> int:
    """The number of axes of a mask, by those of the targets; where none has any, by the number of images."""
    known = [target.ndim - 1 for target in targets if target.ndim > 1]
    known += [pred.ndim - 1 - size for size in (1, 2) if pred.ndim > size + 1 and pred.shape[size - 1] == len(targets)]
    return known[0] if known else 1


def _row_shape(field: Field, pred: Tensor, lead: int) -> tuple[int, ...]:
    """The shape of one target."""
    return {"labels": (), "boxes": (4,), "masks": tuple(pred.shape[lead + 1 :])}[field]


def _rows(target: Tensor, name: str, shape: tuple[int, ...], pred: Tensor, field: Field) -> Tensor:
    """The targets of one image, (n,*shape); of an image without targets only the first axis is looked at."""
    if target.ndim and not len(target):
        return target
    if target.ndim != len(shape) + 1 or tuple(target.shape[1:]) != shape:
        expected = f"({', '.join(('n', *map(str, shape)))}{',' if not shape else ''})"
        points = " Masks and their predictions have one size, or are both sampled at the same points."
        raise InputError(
            f"expected {name} of shape {expected}; got {tuple(target.shape)}.{points if field == 'masks' else ''}"
        )
    if target.device != pred.device:
        raise InputError(f"expected {name} on {pred.device}, as pred; got {target.device}.")
    if field == "labels" and target.dtype not in _INTEGER:
        checks.index(name, target)  # says what is expected
    return target


_INTEGER = (torch.long, torch.int, torch.short, torch.int8, torch.uint8)


def _pad(rows: list[Tensor], length: int, shape: tuple[int, ...], pred: Tensor, empty: torch.dtype) -> Tensor:
    """(B, length, *shape), in one operation but for views; ``empty``: the dtype if there are no targets at all."""
    dtype = next((tensor.dtype for tensor in rows if len(tensor)), empty)
    blank = pred.new_zeros((length, *shape), dtype=dtype)
    parts = [blank[:0]]
    for tensor in rows:
        parts += [tensor, blank[len(tensor) :]] if len(tensor) else [blank]
    return torch.cat(parts).view(len(rows), length, *shape)
