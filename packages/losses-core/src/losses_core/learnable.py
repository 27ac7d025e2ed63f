"""Learnable parts of losses (adapters, generators, heads): give them to the optimizer, and check that it has them."""

from __future__ import annotations

from torch import nn
from torch.optim import Optimizer

from losses_core.errors import ConfigError

__all__ = ["check_optimizer", "trainable_parameters"]


def trainable_parameters(model: nn.Module, *losses: nn.Module) -> list[nn.Parameter]:
    """The parameters of a model and of its losses that require a gradient, each once, for the optimizer.

    Args:
        model: The model that is trained.
        *losses: Its losses; those without learnable parts add nothing.

    Returns:
        The parameters, the model's first.

    Example:
        >>> from torch import nn
        >>> model = nn.Linear(2, 2)
        >>> len(trainable_parameters(model, nn.Linear(2, 2), model))
        4
    """
    parameters = (parameter for module in (model, *losses) for parameter in module.parameters())
    return list(dict.fromkeys(parameter for parameter in parameters if parameter.requires_grad))


def check_optimizer(optimizer: Optimizer, *losses: nn.Module) -> None:
    """Raise where learnable parts of the losses are not in the optimizer: they would silently stay as initialised.

    Args:
        optimizer: The optimizer of the training loop.
        *losses: The losses it should train.

    Raises:
        ConfigError: Parameters are missing; the text names them.

    Example:
        >>> import torch
        >>> model, loss = nn.Linear(2, 2), nn.Linear(2, 2)
        >>> check_optimizer(torch.optim.SGD(trainable_parameters(model, loss), lr=0.1), loss)
    """
    held = {parameter for group in optimizer.param_groups for parameter in group["params"]}
    missing = [
        f"{getattr(loss, 'label', type(loss).__name__)}.{name}"
        for loss in losses
        for name, parameter in loss.named_parameters()
        if parameter.requires_grad and parameter not in held
    ]
    if missing:
        raise ConfigError(
            f"the optimizer lacks {len(missing)} learnable parameter{'s' * (len(missing) > 1)} of the losses: "
            f"{', '.join(missing)}.",
            hint="Build it from trainable_parameters(model, loss).",
        )
