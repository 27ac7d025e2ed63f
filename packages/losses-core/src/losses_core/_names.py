"""What the name of a loss class gives: its label in logs, its function, its module. Standard library only."""

from __future__ import annotations

import keyword
import re


def snake_case(name: str) -> str:
    """``CIoULoss`` → ``ciou``, ``OHEMCrossEntropyLoss`` → ``ohem_cross_entropy``: acronyms are one word.

    Example:
        >>> snake_case("KnowledgeDistillationLoss")
        'knowledge_distillation'
    """
    name = (name.removesuffix("Loss") or name).replace("IoU", "IOU")
    name = re.sub(r"([A-Z]+)([A-Z][a-z])", r"\1_\2", name)
    return re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", name).lower()


def function_name(name: str) -> str:
    """The function of a loss class, and its module.

    Example:
        >>> function_name("WingLoss")
        'wing_loss'
    """
    return f"{snake_case(name)}_loss"


def is_class_name(name: str) -> bool:
    """Whether a name is that of a class, in words with capitals."""
    return re.fullmatch(r"[A-Z][A-Za-z0-9]*", name) is not None and not keyword.iskeyword(name)
