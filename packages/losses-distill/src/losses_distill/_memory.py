"""State of contrastive distillation between steps: a queue of recent samples, or a bank with all of them.

Everything that must survive a checkpoint is a persistent buffer, float32 whatever the module is cast to; options are
not. Buffers are overwritten in training mode, after they were read; autograd saves none of them then.
"""

from __future__ import annotations

import warnings
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.lazy import LazyModuleMixin

from losses_core.distributed import group_name
from losses_core.errors import InputError
from losses_core.utils.weight_reduce import Group
from losses_distill import _ops
from losses_distill._contrast import contrast_pairs, key_scores, noise_contrast
from losses_distill._pairwise import unit
from losses_distill._relation import Batch, select


class _Memory(nn.Module):
    """Rows of student and teacher, (size, width); of width 0 until the width is known."""

    student: Tensor
    teacher: Tensor

    def __init__(self, size: int, width: int | None) -> None:
        super().__init__()
        self.register_buffer("student", torch.zeros(size, 0, dtype=torch.float32))
        self.register_buffer("teacher", torch.zeros(size, 0, dtype=torch.float32))
        if width is not None:
            self.allocate(width, width)

    def allocate(self, student_width: int, teacher_width: int) -> None:
        """Give the rows their width."""
        # of its own, and on the CPU: the rows have to be the same on every rank, whatever the seeds there
        generator = torch.Generator().manual_seed(0)
        for rows, width in ((self.student, student_width), (self.teacher, teacher_width)):
            rows.resize_(rows.shape[0], width)
            rows.copy_(self.first_rows(rows.shape, generator))

    def first_rows(self, shape: torch.Size, generator: torch.Generator) -> Tensor:
        """The rows before the first sample."""
        return torch.zeros(shape, dtype=torch.float32, device="cpu")

    def forward(self, student: Tensor, teacher: Tensor) -> None:
        """Check that features have the widths of the stored rows."""
        if student.shape[1] != self.student.shape[1] or teacher.shape[1] != self.teacher.shape[1]:
            raise InputError(
                f"expected features of the stored widths {self.student.shape[1]} and {self.teacher.shape[1]}; got pred "
                f"{tuple(student.shape)} and target {tuple(teacher.shape)}."
            )

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        before = {name: buffer for name, buffer in self._buffers.items() if buffer is not None}
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for name, original in before.items():
            moved = self._buffers[name]
            if moved is not None and moved.dtype != original.dtype:  # from before the cast, which rounded
                source = moved if original.is_meta else original
                self._buffers[name] = source.to(moved.device, original.dtype)
        return self


class _LazyMemory(LazyModuleMixin, _Memory):
    """A memory that takes its widths from the first features or from a state that is loaded."""

    def initialize_parameters(self, student: Tensor, teacher: Tensor) -> None:
        if self.student.shape[1] == 0:
            self.allocate(int(student.shape[1]), int(teacher.shape[1]))

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any) -> None:
        widths = [state_dict[prefix + name].shape[-1] for name in ("student", "teacher") if prefix + name in state_dict]
        if len(widths) == 2 and self.student.shape[1] == 0:
            self.allocate(*widths)
        super()._load_from_state_dict(state_dict, prefix, *args)


class NegativeQueue(_Memory):
    """A first-in-first-out queue of rows, empty at first."""

    index: Tensor
    pointer: Tensor
    fill: Tensor

    def __init__(self, size: int, width: int | None = None) -> None:
        super().__init__(size, width)
        self.register_buffer("index", torch.full((size,), -1, dtype=torch.long))
        self.register_buffer("pointer", torch.zeros((), dtype=torch.long))
        self.register_buffer("fill", torch.zeros((), dtype=torch.long))

    def loss(self, batch: Batch, sample_idx: Tensor | None, temperature: float) -> Tensor:
        """InfoNCE of the anchors against the batch and the queue, both ways summed; then queue the batch."""
        student, teacher, anchors = batch
        own_idx = None if sample_idx is None else select(sample_idx, anchors)
        same = None if own_idx is None else own_idx.unsqueeze(1) == self.index
        slots = torch.arange(self.index.shape[0], device=student.device)
        bias = torch.ge(slots, self.fill, out=student.new_empty(slots.shape)).mul_(torch.finfo(student.dtype).min)
        of_student = self.logsumexp(select(student, anchors), self.teacher.to(student.dtype), bias, same, temperature)
        of_teacher = self.logsumexp(select(teacher, anchors), self.student.to(student.dtype), bias, same, temperature)
        stored = of_student, of_teacher
        value = contrast_pairs(student, teacher, same_image(sample_idx), temperature, stored, anchors)
        if self.training:
            self.push(student.detach(), teacher.detach(), sample_idx)
        return value

    def logsumexp(self, x: Tensor, *arguments: Any) -> Tensor:
        """The logsumexp of the scores of each anchor against the queue."""
        if self.training:
            value: Tensor = _ops.key_logsumexp(x, *arguments, x.requires_grad)[0]
            return value
        return key_scores(x, *arguments).logsumexp(1)

    @torch.no_grad()
    def push(self, student: Tensor, teacher: Tensor, sample_idx: Tensor | None) -> None:
        """Queue the rows that are finite, in place of the oldest."""
        size, batch = self.index.shape[0], student.shape[0]
        # a trainer skips a step that overflowed; its rows, of length 1 or NaN, must not be stored either
        check = (student * teacher).sum(1)
        valid = check == check
        rank = valid.cumsum(0)
        number = valid.sum()
        # the last valid rows, by how many precede them; numbers below 0 stand for slots before the pointer, which stay
        before = torch.arange(-batch, 0, device=rank.device)[-size:] + number
        source = torch.searchsorted(rank, before.clamp(min=0), right=True).clamp_(max=batch - 1)
        stored, position = before >= 0, (before + self.pointer) % size
        for rows, new in ((self.student, student), (self.teacher, teacher)):
            moved = torch.where(stored.unsqueeze(1), new[source].to(rows.dtype), rows[position])
            rows.index_copy_(0, position, moved)
        index = self.index[position]
        index = index.masked_fill(stored, -1) if sample_idx is None else torch.where(stored, sample_idx[source], index)
        self.index.index_copy_(0, position, index)
        self.pointer.add_(number).remainder_(size)
        self.fill.add_(number).clamp_(max=size)


class LazyNegativeQueue(_LazyMemory, NegativeQueue):
    """`NegativeQueue` of the width of the first features."""

    cls_to_become = NegativeQueue


class MemoryBank(_Memory):
    """One row per sample of the data set, a running mean of its features; log Z of either side, -inf until known."""

    log_z: Tensor

    def __init__(self, size: int, width: int | None = None) -> None:
        super().__init__(size, width)
        self.register_buffer("log_z", torch.full((2,), -torch.inf))

    def first_rows(self, shape: torch.Size, generator: torch.Generator) -> Tensor:
        return unit(torch.randn(shape, generator=generator, dtype=torch.float32, device="cpu"))

    def loss(
        self,
        batch: Batch,
        sample_idx: Tensor,
        positive: Tensor,
        negative: Tensor,
        temperature: float,
        momentum: float,
        eps: float,
        group: Group | None,
    ) -> Tensor:
        """NCE of the anchors, each side against the other's rows; then move the rows of the batch.

        ``sample_idx`` is that of the whole batch, ``positive`` and ``negative`` are those of the anchors.
        """
        student, teacher, anchors = batch
        own = negative == positive.unsqueeze(1) if negative.ndim == 1 else None
        values, log_z = [], []
        for x, bank, known in zip((student, teacher), (self.teacher, self.student), self.log_z, strict=True):
            stored = bank.to(x.dtype), positive, negative, own, known.to(x.dtype)
            value, found = self.contrast(select(x, anchors), *stored, temperature, eps, group)
            values.append(value)
            log_z.append(found)
        if self.training:
            self.update(student.detach(), teacher.detach(), sample_idx, momentum, torch.stack(log_z))
        return values[0] + values[1]

    def contrast(self, x: Tensor, *arguments: Any) -> tuple[Tensor, Tensor]:
        """The loss of each anchor, and log Z of this batch."""
        if not self.training:
            return noise_contrast(x, *arguments)[:2]
        *plain, group = arguments
        name = None if group is None else group_name(group.handle)
        value, log_z, _ = _ops.noise_contrast(x, *plain, name, x.requires_grad)
        return value, log_z

    @torch.no_grad()
    def update(self, student: Tensor, teacher: Tensor, index: Tensor, momentum: float, log_z: Tensor) -> None:
        """Move the rows of this batch towards its features, and keep the first log Z, where they are finite."""
        # of samples that show one image the last is stored: then the order of writing does not matter
        order = torch.arange(index.shape[0], device=index.device)
        last = F.pad(torch.where(index.unsqueeze(1) == index, order, 0), (0, 1)).amax(1)  # of no rows too
        for rows, new in ((self.student, student), (self.teacher, teacher)):
            old = rows[index]
            moved = unit(momentum * old + (1 - momentum) * new[last].to(rows.dtype))
            rows.index_copy_(0, index, torch.where(moved.isfinite().all(1, keepdim=True), moved, old))
        unknown = ~self.log_z.isfinite() & log_z.isfinite()
        self.log_z.copy_(torch.where(unknown, log_z.to(self.log_z.dtype), self.log_z))


class LazyMemoryBank(_LazyMemory, MemoryBank):
    """`MemoryBank` of the width of the first features."""

    cls_to_become = MemoryBank


def same_image(sample_idx: Tensor | None) -> Tensor | None:
    """(N,N), true where two different samples of the batch show one image."""
    if sample_idx is None:
        return None
    order = torch.arange(sample_idx.shape[0], device=sample_idx.device)
    return (sample_idx.unsqueeze(1) == sample_idx) & (order.unsqueeze(1) != order)


def lazily(lazy: type[_LazyMemory], size: int) -> Any:
    """A memory whose width is not known yet."""
    with warnings.catch_warnings():  # earlier versions of torch warn of every lazy module
        warnings.simplefilter("ignore")
        return lazy(size)


__all__ = ["LazyMemoryBank", "LazyNegativeQueue", "MemoryBank", "NegativeQueue", "lazily", "same_image"]
