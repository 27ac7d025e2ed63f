"""`LossTerms`: the named parts of a combined loss and their sum."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor


class LossTerms(Mapping[str, Tensor]):
    """The weighted terms of a combined loss by label, as scalars, and their sum.

    Args:
        raw: Each term before its `loss_weight`.
        weights: The weight of each term, its `loss_weight` where no weighting says otherwise.
        penalties: What a weighting adds to each term, if anything.

    Attributes:
        raw: As given.
        weights: As given.
        penalties: As given, empty without any.
        total: The sum of the weighted terms, in their order: what to call `backward` on.

    Example:
        >>> import torch
        >>> terms = LossTerms({"ce": torch.tensor(2.0), "dice": torch.tensor(3.0)}, {"ce": 1.0, "dice": 0.5})
        >>> terms["dice"], terms.total
        (tensor(1.5000), tensor(3.5000))
        >>> list(terms.log_dict("train/"))
        ['train/loss/ce', 'train/loss/dice', 'train/loss/total']
    """

    def __init__(
        self,
        raw: Mapping[str, Tensor],
        weights: Mapping[str, float | Tensor],
        penalties: Mapping[str, Tensor] | None = None,
    ) -> None:
        self.raw = raw
        self.weights = weights
        self.penalties: Mapping[str, Tensor] = penalties or {}
        self._terms = {label: value * weights[label] for label, value in raw.items()}
        self._terms.update({label: self._terms[label] + penalty for label, penalty in self.penalties.items()})
        first, *others = self._terms.values()
        self.total: Tensor = first
        for term in others:
            self.total = self.total + term

    def __getitem__(self, label: str) -> Tensor:
        return self._terms[label]

    def __iter__(self) -> Iterator[str]:
        return iter(self._terms)

    def __len__(self) -> int:
        return len(self._terms)

    # Mapping compares values, and tensors have no single truth value.
    __eq__ = object.__eq__
    __hash__ = object.__hash__

    def __repr__(self) -> str:
        return f"LossTerms({self._terms!r})"

    def times(self, factor: float | Tensor) -> LossTerms:
        """The same values with every weight and penalty times a factor.

        Example:
            >>> import torch
            >>> LossTerms({"ce": torch.tensor(2.0)}, {"ce": 0.5}).times(3.0).total
            tensor(3.)
        """
        weights = {label: weight * factor for label, weight in self.weights.items()}
        return LossTerms(self.raw, weights, {label: penalty * factor for label, penalty in self.penalties.items()})

    def log_dict(self, prefix: str = "", *, raw: bool = False, weights: bool = False) -> dict[str, Tensor]:
        """The terms and the total for a logger, detached; nothing waits for the device.

        Args:
            prefix: Put before each key, as `train/`.
            raw: Whether to add each term before its weight, `{prefix}raw/{label}`.
            weights: Whether to add the weights, `{prefix}weight/{label}`.

        Returns:
            `{prefix}loss/{label}` for each term, and `{prefix}loss/total`. The tensors hold neither the graph nor the
            memory of the step, so they can be kept.
        """
        named = {f"{prefix}loss/{label}": term for label, term in self._terms.items()}
        named[f"{prefix}loss/total"] = self.total
        if raw:
            named.update({f"{prefix}raw/{label}": value for label, value in self.raw.items()})
        if weights:
            for label, weight in self.weights.items():
                value = self.raw[label].detach()
                named[f"{prefix}weight/{label}"] = weight if isinstance(weight, Tensor) else value.new_full((), weight)
        # clone: the next step may write over the memory of these, as the replay of a CUDA graph does
        return {name: tensor.detach().clone() for name, tensor in named.items()}

    def to_mm(self) -> dict[str, Tensor]:
        """The terms as mmengine takes them from `model.loss()`: `loss_{label}`, without a total.

        mmengine adds up every entry whose key contains `loss`; a total would count everything twice.
        """
        return {f"loss_{label}": term for label, term in self._terms.items()}

    def stack(self) -> Tensor:
        """The weighted terms as one 1-D tensor, for libraries of multi-objective optimisation."""
        return torch.stack(list(self._terms.values()))
