"""How losses of libraries are taken: with the options of a row where they have them."""

from __future__ import annotations

from collections.abc import Callable

from bench.case import Function
from bench.edges.exact import IGNORED, Exact
from bench.edges.subject import Implementation
from bench.peers import load
from losses_core import build_loss

SMP = "segmentation_models_pytorch.losses"


def always(function: Callable[[], Function], exact: Exact, *still: str) -> Implementation:
    """An implementation without options."""
    return Implementation(lambda option: function(), exact, still=frozenset(still))


def having(options: str, make: Callable[[str | None], Function], exact: Exact) -> Implementation:
    """An implementation with options, named with spaces between them."""
    return Implementation(make, exact, frozenset(options.split()))


def ours(name: str, right: Exact, **options: object) -> Implementation:
    """Our loss, with 255 ignored."""
    config = {"type": name, "ignore_index": IGNORED} | options
    return having("ignore", lambda option: build_loss(config), right)


def ignoring(target: str, right: Exact, keyword: str = "ignore_index", **options: object) -> Implementation:
    """A class whose constructor takes what to ignore."""

    def make(option: str | None) -> Function:
        ignored = {keyword: IGNORED} if option == "ignore" else {}
        return load(target)(**options, **ignored)  # type: ignore[no-any-return]

    return having("ignore", make, right)
