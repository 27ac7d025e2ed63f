"""`ChunkedLoss`: a loss of ``head(features)`` in memory that does not hold the logits."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from losses_core._chunks import ChunkedSum, ChunkJob, Cut, apply_head, as_head
from losses_core._options import weight_for
from losses_core._suggest import shown
from losses_core._terms import LossTerms
from losses_core._wrappers import Wrapper, as_loss
from losses_core.base_loss import BaseLoss
from losses_core.distributed import compute_all
from losses_core.errors import ConfigError, InputError
from losses_core.utils import checks
from losses_core.utils.precision import map_tensors
from losses_core.utils.weight_reduce import Group, Reduction, check_reduction, given_denominator

OVER = ("rows", "batch")


class ChunkedLoss(Wrapper):
    r"""A loss of ``head(features)``, computed chunk by chunk: the logits of the whole batch never exist.

    .. math::
        L = w \, \frac{\sum_c \sum_{i \in c} l_i}{\sum_c \sum_{i \in c} m_i}

    over the chunks c, with the values :math:`l_i`, normalizers :math:`m_i` and ``loss_weight`` w of the inner loss.
    Value and gradients are those of the loss of all logits at once. The gradients in the features and in the head are
    computed with the value, one chunk after the other, so the backward pass only scales them.

    Use when: the logits fill the memory, as with vocabularies of 100,000 tokens, distillation between two such heads,
    or dense prediction at full resolution. Where they fit, one call on all of them is faster.

    Args:
        loss: a loss, or the config of one. Its value must be a sum over rows divided by a normalizer; a loss that
            couples rows (its ``coupled`` says what) is refused.
        chunk_size: rows, or samples, of one chunk, ≥ 1. Default: 1024.
        over: ``'rows'`` cuts all leading axes of the features, ``'batch'`` their first axis. Default: ``'rows'``.

    Shape:
        - features: (…,D) over rows; the head maps (rows,D) to (rows,C). (N,…) over the batch; the head maps (n,…) to
          what the loss takes, for instance (n,C,H,W).
        - target: as the loss takes it for the logits of all rows, or of all samples.
        - head: a module, or a pair (weight (C,D), bias (C,) or None).
        - teacher_head: likewise; target then holds the features of a teacher, and ``teacher_head(target)`` without a
          gradient is the target of the loss.
        - weight and other tensors: those whose leading axes are those of the features are cut with them, others are
          given to every chunk as they are.

    Returns:
        0-d: ``mean``, ``sum`` or ``batchmean``, in float32, or float64 for float64.

    Raises:
        ConfigError: a loss that couples rows, or an option outside its range.
        InputError: what the loss raises for a chunk; ``reduction='none'``; a head that is neither a module nor a pair,
            or has batch statistics; a target or weight that requires a gradient, or lacks the leading axes of the
            features.

    Notes:
        Dropout in the head draws for each chunk. The head runs under the caller's autocast, the loss in float32.
        Gradients of a half-precision head are accumulated in float32. The gradient cannot be differentiated again. A
        compiler has one graph break at this loss.

    Example:
        >>> import torch
        >>> from losses_core import BaseLoss
        >>> class SquaredLoss(BaseLoss):
        ...     def _forward(self, pred, target):
        ...         return (pred - target).square()
        >>> head, features = torch.nn.Linear(8, 1000), torch.ones(4, 32, 8, requires_grad=True)
        >>> loss = ChunkedLoss(SquaredLoss(), chunk_size=50)(features, torch.zeros(4, 32, 1000), head)
        >>> loss.backward()
        >>> features.grad.shape, head.weight.grad.shape
        (torch.Size([4, 32, 8]), torch.Size([1000, 8]))
    """

    def __init__(self, loss: Any, chunk_size: int = 1024, over: Literal["rows", "batch"] = "rows") -> None:
        super().__init__()
        self.over = checks.choice(self, "over", over, OVER)
        self.chunk_size = checks.number(self, "chunk_size", chunk_size, low=1, integer=True)
        loss = as_loss(loss)
        if not isinstance(loss, BaseLoss):
            raise ConfigError(f"ChunkedLoss: loss: expected one loss or its config; got {shown(loss)}.")
        if loss.coupled is not None and (loss.coupled, over) != ("image", "batch"):
            way_out = "Use over='batch'." if loss.coupled == "image" else "Call it on head(features)."
            raise ConfigError(
                f"ChunkedLoss: {type(loss).__name__} cannot be computed chunk by chunk: its value couples the rows of "
                f"{'a sample' if loss.coupled == 'image' else 'the batch'}. {way_out}"
            )
        if loss.reduction == "none":
            raise ConfigError("ChunkedLoss: loss: expected the reduction 'mean' or 'sum'; got 'none'.")
        self.loss = loss

    @property
    def label(self) -> str:  # type: ignore[override]  # what is the inner loss's is read there
        """The name of the inner loss."""
        return self.loss.label

    @property
    def loss_name(self) -> str:  # type: ignore[override]
        """The name under which a head of mmseg logs the inner loss."""
        return self.loss.loss_name

    @property
    def loss_weight(self) -> Any:
        """The weight of the inner loss."""
        return self.loss.loss_weight

    @loss_weight.setter
    def loss_weight(self, value: Any) -> None:
        self.loss.loss_weight = value

    def forward(
        self,
        features: Tensor,
        target: Any,
        head: Any,
        *,
        teacher_head: Any = None,
        weight: Tensor | None = None,
        avg_factor: float | Tensor | None = None,
        reduction_override: str | None = None,
        **keywords: Any,
    ) -> Tensor:
        """Compute the loss of ``head(features)``.

        Args:
            features: what the head takes.
            target: target of the loss; with a ``teacher_head`` the features of the teacher.
            head: from features to logits. It comes with the call, so that its parameters are not the loss's.
            teacher_head: from the target's features to the target.
            weight: sample weights of the loss.
            avg_factor: denominator of ``mean`` for this call.
            reduction_override: ``'mean'``, ``'sum'`` or ``'batchmean'``, as the loss knows it.
            **keywords: keywords of the loss.

        Returns:
            The reduced loss, times the ``loss_weight`` of the inner loss.
        """
        call = (features, target, head, teacher_head, weight, avg_factor, reduction_override, keywords)
        return self._run(True, *call)

    def terms(
        self,
        features: Tensor,
        target: Any,
        head: Any,
        *,
        teacher_head: Any = None,
        weight: Tensor | None = None,
        avg_factor: float | Tensor | None = None,
        reduction_override: str | None = None,
        **keywords: Any,
    ) -> LossTerms:
        """Compute the loss as a single term under its label; arguments are those of `forward`."""
        call = (features, target, head, teacher_head, weight, avg_factor, reduction_override, keywords)
        raw = self._run(False, *call)
        return LossTerms({self.label: raw}, {self.label: weight_for(self.loss_weight, raw)})

    def _run(self, *call: Any) -> Tensor:
        if torch.compiler.is_compiling():
            from losses_core._uncompiled import run

            return run(self._forward, *call)  # type: ignore[no-any-return]
        return self._forward(*call)

    def _forward(self, *call: Any) -> Tensor:
        try:
            return self._compute(*call)
        except InputError as error:
            error.where = f"ChunkedLoss: {error.where}" if error.where else "ChunkedLoss"
            raise

    def _compute(
        self,
        weighted: bool,
        features: Tensor,
        target: Any,
        head: Any,
        teacher_head: Any,
        weight: Tensor | None,
        avg_factor: float | Tensor | None,
        reduction_override: str | None,
        keywords: dict[str, Any],
    ) -> Tensor:
        loss = self.loss
        reduction = loss.reduction if reduction_override is None else reduction_override
        check_reduction(reduction, [name for name in loss.reductions if name != "none"])
        given = given_denominator(reduction, loss.avg_factor if avg_factor is None else avg_factor)
        cut = Cut(self._lead(features), self.chunk_size)
        student, learned = as_head(head)
        teacher = None if teacher_head is None else as_head(teacher_head)[0]
        tensors = {"target": target, "weight": weight, **keywords}
        _refuse_gradients(tensors)
        for name in ("target", "weight", *(loss._definition.rows if loss._definition else ())):
            cut.check(name, tensors.get(name))

        def compute(logits: Tensor, start: int, end: int) -> tuple[Tensor, Tensor | float | None]:
            part = cut.part(tensors, start, end)
            truth, of_rows = part.pop("target"), part.pop("weight")
            if teacher is not None:
                with torch.no_grad():
                    truth = apply_head(teacher, truth)
            result = loss._evaluate(
                logits, truth, of_rows, None, "sum" if given is not None else reduction, _scale=None, **part
            )
            return result.numerator, result.denominator

        # what a loss learns gets its gradient too
        learned = [tensor for tensor in (*learned, *loss.parameters()) if tensor.requires_grad]
        learned = [tensor for tensor in learned if tensor is not loss.loss_weight]
        job = ChunkJob(compute, student, cut, learned)
        if torch.is_grad_enabled() and (features.requires_grad or learned):
            value = ChunkedSum.apply(job, features, *learned)  # type: ignore[no-untyped-call]
        else:
            value = job.run(features, needs_grad=False)[0]
        group = Group(loss.process_group) if loss._synchronises() else None
        total = Reduction(value, job.denominator if given is None else given, reduction, group)
        (result,) = compute_all([total], [loss.label])
        return result * weight_for(loss.loss_weight, result) if weighted else result

    def _lead(self, features: Any) -> torch.Size:
        """The axes that are cut."""
        if not checks.tensor("features", features).is_floating_point():
            raise InputError(f"features: expected a floating-point tensor; got {features.dtype}.")
        if features.ndim < (2 if self.over == "rows" else 1):
            raise InputError(f"features: expected (…,D) over rows, (N,…) over the batch; got {tuple(features.shape)}.")
        return torch.Size(features.shape[:-1] if self.over == "rows" else features.shape[:1])

    def to_config(self) -> dict[str, Any]:
        """The config from which `build_loss` builds this loss again."""
        own = {"type": type(self).__name__, "chunk_size": self.chunk_size, "over": self.over}
        return own | {"loss": self.loss.to_config()}

    def extra_repr(self) -> str:
        return f"chunk_size={self.chunk_size}, over={self.over!r}"


def _refuse_gradients(tensors: dict[str, Any]) -> None:
    for name, tree in tensors.items():

        def refuse(tensor: Tensor, name: str = name) -> Tensor:
            if tensor.requires_grad and torch.is_grad_enabled():
                raise InputError(
                    f"{name} requires a gradient, which a chunked loss does not give. Detach it, or call the loss on "
                    "head(features)."
                )
            return tensor

        map_tensors(refuse, tree)
