"""Adapters for training frameworks, none of which is imported with this module.

What needs no bridge: mmengine builds `losses_seg.DiceLoss` from its dotted name and takes `terms(…).to_mm()`;
OmegaConf's containers go into `build_loss` as they are; Hydra's `_target_`, LightningCLI and jsonargparse read the
constructors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from losses_core._suggest import did_you_mean, shown
from losses_core.base_loss import BaseLoss
from losses_core.combined import CombinedLoss, Member
from losses_core.errors import ConfigError, InputError, RegistryError
from losses_core.registry import LOSSES

__all__ = ["compute_loss_func", "register_mmengine"]

COUNTED = -100
"""The label that Hugging Face's Trainer excludes from `num_items_in_batch`."""


def compute_loss_func(
    loss: BaseLoss | CombinedLoss,
    logits_key: str = "logits",
    *,
    items: Iterable[str] | None = None,
    accumulation_steps: int = 1,
    class_dim: int = 1,
    shift: bool = False,
) -> Callable[..., Tensor]:
    """The `compute_loss_func` of Hugging Face's `Trainer`, exact under gradient accumulation.

    The Trainer counts the labels of all small batches of a step that are not -100, and gives that number with each of
    them. It becomes the `avg_factor`, so the accumulated gradient is that of one large batch.

    Args:
        loss: What `build_loss` built.
        logits_key: Where in the model's output the prediction is: a key or an attribute.
        items: The terms of a combination that are means over labels, and so are divided by the number of items.
            Default: None, all of them.
        accumulation_steps: `gradient_accumulation_steps` of the `TrainingArguments`. It divides the other terms, which
            are means of the small batch (as of Dice over its images), and what a learned weighting adds. Default: 1.
        class_dim: The axis of the classes in the logits; -1 for language models. Default: 1.
        shift: Whether label i + 1 belongs to logits i, as in causal language models. Default: False.

    Returns:
        A function of `outputs`, `labels` and `num_items_in_batch`.

    Raises:
        ConfigError: A term that is divided by the number of items ignores another label than -100, which the Trainer
            counts; an entry of `items` is not a term; or `accumulation_steps` is not an integer ≥ 1.

    Example:
        >>> import torch
        >>> from losses_core import LOSSES, BaseLoss
        >>> class AbsoluteLoss(BaseLoss):
        ...     def _forward(self, pred, target):
        ...         return (pred - target).abs()
        >>> function = compute_loss_func(AbsoluteLoss())
        >>> function({"logits": torch.ones(2)}, torch.zeros(2), num_items_in_batch=torch.tensor(4))
        tensor(0.5000)
    """
    if type(accumulation_steps) is not int or accumulation_steps < 1:
        raise ConfigError(f"accumulation_steps: expected an integer >= 1; got {shown(accumulation_steps)}.")
    counted = _counted(loss, items)
    for label, member in counted.items():
        for module in member.modules():
            if getattr(module, "ignore_index", COUNTED) != COUNTED:
                raise ConfigError(
                    f"{label}: ignores the label {module.ignore_index}, but the Trainer counts every label that is not "
                    f"{COUNTED}.",
                    hint=f"Give it ignore_index={COUNTED}, or name the terms that are means over labels in items=.",
                )

    def function(outputs: Any, labels: Any, num_items_in_batch: float | Tensor | None = None) -> Tensor:
        pred = _find(outputs, logits_key)
        if class_dim != 1:
            pred = pred.movedim(class_dim, 1)
        if shift:
            pred, labels = pred[:, :, :-1], labels[..., 1:]
        value: Tensor
        if num_items_in_batch is None:  # the Trainer was not able to count: it takes the mean of means
            value = loss(pred, labels) / accumulation_steps
        elif isinstance(loss, BaseLoss):
            value = loss(pred, labels, avg_factor=num_items_in_batch)
        else:
            terms = loss.terms(pred, labels, avg_factor=dict.fromkeys(counted, num_items_in_batch) or None)
            divisor = {label: 1 if label.partition(".")[0] in counted else accumulation_steps for label in terms}
            # what a weighting adds does not grow with the labels: each small batch brings it anew
            parts = [terms.raw[label] * terms.weights[label] / divisor[label] for label in terms]
            parts += [penalty / accumulation_steps for penalty in terms.penalties.values()]
            value = torch.stack(parts).sum()
        return value

    return function


def _counted(loss: Member, items: Iterable[str] | None) -> dict[str, Member]:
    if isinstance(loss, BaseLoss):
        if items is not None:
            raise ConfigError("items: names terms of a combination, and this is a single loss; leave it out.")
        return {loss.label: loss}
    chosen = list(loss) if items is None else list(items)
    for name in chosen:
        if name not in loss:
            raise ConfigError(f"items: there is no term {shown(name)}.{did_you_mean(name, loss)}")
    return {name: loss[name] for name in chosen}


def _find(outputs: Any, key: str) -> Tensor:
    if isinstance(outputs, Tensor):
        return outputs
    if isinstance(outputs, Mapping):
        if key in outputs:
            return outputs[key]  # type: ignore[no-any-return]
        raise InputError(
            f"logits_key: the model's output has no {key!r}.{did_you_mean(key, outputs)} It has: {', '.join(outputs)}."
        )
    if not hasattr(outputs, key):
        raise InputError(f"logits_key: the model's output, a {type(outputs).__name__}, has no {key!r}.")
    return getattr(outputs, key)  # type: ignore[no-any-return]


def register_mmengine(
    registry: Any, names: Iterable[str] | None = None, *, prefix: str = "", force: bool = False
) -> list[str]:
    """Register installed losses by their short names in a registry of mmengine, as `mmdet.registry.MODELS`.

    Without it a config of mmengine names a loss by its dotted path: `dict(type='losses_seg.DiceLoss')`.

    Args:
        registry: A registry of mmengine.
        names: The losses. Default: None, every one that is installed.
        prefix: Put before each name, without a dot, which mmengine reads as the end of a scope: frameworks of mm* have
            losses of the same names. Default: nothing.
        force: Replace what has the name already. Default: False.

    Returns:
        The names under which they are registered.

    Raises:
        RegistryError: A name is taken, and not by the same loss; nothing is registered then.
        ConfigError: A dot in the prefix.
    """
    if "." in prefix:
        raise ConfigError(f"prefix: mmengine reads {prefix!r} as a scope; expected one without a dot.")
    wanted = {prefix + name: LOSSES[name] for name in (list(LOSSES) if names is None else names)}
    own = registry.module_dict
    taken = sorted(name for name, cls in wanted.items() if own.get(name, cls) is not cls)
    if taken and not force:
        raise RegistryError(
            f"the registry {registry.name!r} has {', '.join(taken)} already. Give a prefix, name the losses that you "
            "want, or replace theirs with force=True."
        )
    for name, cls in wanted.items():
        registry.register_module(name=name, module=cls, force=True)
    return list(wanted)
