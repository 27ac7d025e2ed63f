"""The losses of other libraries; one that is not installed raises `Missing`.

Several libraries import torchvision, mmcv or a registry when they are imported, none of which their losses need. Of
those only the modules with the losses are loaded: an empty module, a shell, stands for each package around them. Shells
stay for the life of a process, so each comparison has a process of its own.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import importlib.util
import os
import sys
import types
from collections.abc import Callable, Sequence
from typing import Any

WITH_DEPENDENCIES = ["fvcore", "kornia", "monai", "pytorch-metric-learning"]
# what the mm* libraries import, without being a library of losses itself
ALSO_NEEDED = ["mmengine"]
# torchvision is for one release of torch, another one than ours; of these only modules without it are loaded
WITHOUT_DEPENDENCIES = [
    "mmdet",
    "mmpretrain",
    "mmrazor",
    "mmsegmentation",
    "segmentation-models-pytorch",
    "timm",
    "torchdistill",
    "torchvision",
]


class Missing(Exception):
    """A library that is not installed here."""


def is_installed(package: str) -> bool:
    """Whether there is a package of this name to import."""
    return package in sys.modules or importlib.util.find_spec(package) is not None


def versions() -> dict[str, str]:
    """The installed ones of these libraries, with their versions."""
    found = {}
    for name in sorted([*WITH_DEPENDENCIES, *WITHOUT_DEPENDENCIES]):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def load(target: str) -> Any:
    """The object ``package.module:name``."""
    module, _, name = target.partition(":")
    package = module.partition(".")[0]
    if not is_installed(package):
        raise Missing(package)
    try:
        prepare(package)
        return getattr(importlib.import_module(module), name)
    except ModuleNotFoundError as error:  # something else that the library needs
        raise Missing(f"{package}, which needs {error.name}") from error


def prepare(package: str) -> None:
    """Put the empty modules in place that the losses of this package can be imported from; does nothing twice."""
    if package not in sys.modules and package in _PREPARE:
        _PREPARE[package]()


def _shells(*names: str) -> None:
    """Put an empty module in the place of each package, from which its modules can be imported."""
    for name in names:
        parent, _, child = name.rpartition(".")
        shell: Any = types.ModuleType(name)
        if parent:
            shell.__path__ = [os.path.join(folder, child) for folder in sys.modules[parent].__path__]
            setattr(sys.modules[parent], child, shell)
        else:
            spec = importlib.util.find_spec(name)
            assert spec
            shell.__path__ = list(spec.submodule_search_locations or ())
        sys.modules[name] = shell


class _Registry:
    """Takes the place of a registry: registering returns the class as it is."""

    def register_module(self, *_: Any, **__: Any) -> Callable[[Any], Any]:
        return lambda registered: registered


def _openmmlab(package: str, folders: Sequence[str], *registries: str) -> None:
    if not is_installed("mmcv"):  # for an operator on the GPU, which no loss here asks for
        sys.modules["mmcv"] = types.ModuleType("mmcv")
        sys.modules["mmcv.ops"] = ops = types.ModuleType("mmcv.ops")
        ops.sigmoid_focal_loss = None  # type: ignore[attr-defined]
    _shells(package, *(f"{package}.{folder}" for folder in folders))
    registry: Any = types.ModuleType(f"{package}.registry")
    for name in registries:
        setattr(registry, name, _Registry())
    sys.modules[registry.__name__] = registry


def _mmdet() -> None:
    _openmmlab("mmdet", ["models", "models.losses", "structures", "structures.bbox"], "MODELS")
    overlaps = importlib.import_module("mmdet.structures.bbox.bbox_overlaps")
    sys.modules["mmdet.structures.bbox"].bbox_overlaps = overlaps.bbox_overlaps  # type: ignore[attr-defined]


def _mmseg() -> None:
    _openmmlab("mmseg", ["models", "models.losses", "structures", "structures.sampler"], "MODELS", "TASK_UTILS")


def _torchdistill() -> None:
    _shells("torchdistill", "torchdistill.losses", "torchdistill.common")
    registry: Any = types.ModuleType("torchdistill.losses.registry")
    registry.register_mid_level_loss = registry.register_loss_wrapper = lambda registered: registered
    sys.modules[registry.__name__] = registry


_PREPARE: dict[str, Callable[[], None]] = {
    "mmdet": _mmdet,
    "mmpretrain": lambda: _openmmlab("mmpretrain", ["models", "models.losses"], "MODELS"),
    "mmrazor": lambda: _openmmlab("mmrazor", ["models", "models.losses"], "MODELS"),
    "mmseg": _mmseg,
    "segmentation_models_pytorch": lambda: _shells("segmentation_models_pytorch"),
    "timm": lambda: _shells("timm", "timm.loss"),
    "torchdistill": _torchdistill,
    "torchvision": lambda: _shells("torchvision", "torchvision.ops"),
}
