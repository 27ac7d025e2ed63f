"""What contrastive distillation remembers between steps: a queue of recent samples, or a bank with all of them.

Everything that must survive a checkpoint is a persistent buffer, float32 whatever the module is cast to; options are
not. Buffers are written in place, in training mode, after they were read; nothing that autograd keeps is ever among
them.
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
from losses_distill import _opaque
from losses_distill._contrast import in_batch, noise_contrast, queue_scores
from losses_distill._norm import unit
from losses_distill._relation import Batch


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
        """What the rows are before the first sample."""
        return torch.zeros(shape, dtype=torch.float32, device="cpu")

    def check(self, student: Tensor, teacher: Tensor) -> None:
        """Refuse features of another width than what is stored."""
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
            if moved is not None and moved.dtype != original.dtype:  # the digits are taken from before the cast
                source = moved if original.is_meta else original
                self._buffers[name] = source.to(moved.device, original.dtype)
        return self


class _LazyMemory(LazyModuleMixin, _Memory):
    """A memory that takes its widths from the first features or from a state that is loaded."""

    def initialize_parameters(self, batch: Batch, *args: Any) -> None:
        if self.student.shape[1] == 0:
            self.allocate(int(batch.student.shape[1]), int(batch.teacher.shape[1]))

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

    def forward(self, batch: Batch, sample_idx: Tensor | None, temperature: float) -> Tensor:
        """InfoNCE of each own pair against the batch and the queue, both ways summed; then the batch is queued."""
        student, teacher = batch.student, batch.teacher
        self.check(student, teacher)
        slot = torch.arange(self.index.shape[0], device=student.device)
        bias = torch.where(slot < self.fill, 0.0, -torch.inf).to(student.dtype)
        same = None if sample_idx is None else batch.part(sample_idx).unsqueeze(1) == self.index
        stored = self.teacher.to(student.dtype), self.student.to(student.dtype)
        settings = bias, same, temperature
        against_teachers = self.scores(batch.part(student), stored[0], *settings)
        against_students = self.scores(batch.part(teacher), stored[1], *settings)
        pair, of_student, of_teacher = map(batch.part, in_batch(student, teacher, same_image(sample_idx), temperature))
        value = torch.logaddexp(of_student, against_teachers) + torch.logaddexp(of_teacher, against_students) - 2 * pair
        if self.training:
            self.push(student.detach(), teacher.detach(), sample_idx)
        return value

    def scores(self, x: Tensor, *arguments: Any) -> Tensor:
        if self.training and torch.compiler.is_compiling():
            value: Tensor = _opaque.queue_scores(x, *arguments)[0]
            return value
        return queue_scores(x, *arguments)

    @torch.no_grad()
    def push(self, student: Tensor, teacher: Tensor, sample_idx: Tensor | None) -> None:
        """Queue the rows that are finite, the oldest making room."""
        size = self.index.shape[0]
        # a step that overflowed is skipped by the trainer; it must not be remembered either
        sound = student.isfinite().all(1) & teacher.isfinite().all(1)
        number = sound.sum()
        # the sound rows last, in their order; the others meet slots before the pointer, which keep what they hold
        order = sound.int().argsort(stable=True)[-size:]
        sound = sound[order]
        position = (self.pointer + torch.arange(order.shape[0], device=order.device) - (~sound).sum()) % size
        for rows, new in ((self.student, student), (self.teacher, teacher)):
            rows.index_copy_(0, position, torch.where(sound.unsqueeze(1), new[order].to(rows.dtype), rows[position]))
        index = torch.full_like(order, -1) if sample_idx is None else sample_idx[order]
        self.index.index_copy_(0, position, torch.where(sound, index, self.index[position]))
        self.pointer.copy_((self.pointer + sound.sum()) % size)
        self.fill.copy_((self.fill + number).clamp(max=size))


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

    def forward(
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
        """NCE of the own students against the teachers' rows and the other way round; then the batch's rows move.

        ``sample_idx`` is that of the whole batch, ``positive`` and ``negative`` are those of the own rows.
        """
        student, teacher = batch.student, batch.teacher
        self.check(student, teacher)
        own = negative == positive.unsqueeze(1) if negative.ndim == 1 else None
        stored = self.teacher.to(student.dtype), self.student.to(student.dtype)
        log_z = self.log_z.to(student.dtype)
        chosen, settings = (positive, negative, own), (temperature, eps, group)
        of_student, first = self.scores(batch.part(student), stored[0], *chosen, log_z[0], *settings)
        of_teacher, second = self.scores(batch.part(teacher), stored[1], *chosen, log_z[1], *settings)
        if self.training:
            self.update(student.detach(), teacher.detach(), sample_idx, momentum, torch.stack((first, second)))
        return of_student + of_teacher

    def scores(self, x: Tensor, *arguments: Any) -> tuple[Tensor, Tensor]:
        if self.training and torch.compiler.is_compiling():
            *plain, group = arguments
            name = None if group is None else group_name(group.handle)
            value, log_z, _ = _opaque.noise_contrast(x, *plain, name)
            return value, log_z
        return noise_contrast(x, *arguments)

    @torch.no_grad()
    def update(self, student: Tensor, teacher: Tensor, index: Tensor, momentum: float, log_z: Tensor) -> None:
        """Move the rows of this batch towards its features, and keep the first log Z; nothing that is not finite."""
        # of samples that show one image the last is stored: with one value per row any order of writing gives the same
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
