"""YAML for configs from anywhere: plain data only, no repeated key, bounded depth and alias expansion."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import yaml

from losses_core._suggest import shown
from losses_core.errors import ConfigError

MAX_DEPTH = 64
MAX_DIGITS = 400
"""Characters of a number: YAML's numbers to the base 60 take a time that grows with the square."""
MAX_EXPANDED = 10_000
"""Nodes that aliases may add to the others: ten lines of nested aliases can stand for billions."""


class _Loader(yaml.SafeLoader):
    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise ConfigError(f"nested more than {MAX_DEPTH} deep{_place(parent)}.")
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


def _of_bounded_length(construct: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """A constructor of numbers that refuses one of more than `MAX_DIGITS` characters."""

    def bounded(loader: _Loader, node: yaml.Node) -> Any:
        if isinstance(node, yaml.ScalarNode) and len(node.value) > MAX_DIGITS:
            raise ConfigError(f"a number of {len(node.value):,} characters{_place(node)}.")
        return construct(loader, node)

    return bounded


for _kind in ("int", "float"):
    _tag = f"tag:yaml.org,2002:{_kind}"
    _Loader.add_constructor(_tag, _of_bounded_length(yaml.SafeLoader.yaml_constructors[_tag]))


def parse(text: str) -> Any:
    """The one document in `text`.

    Raises:
        ConfigError: A repeated key, or too much depth or expansion. Syntax errors are PyYAML's own.
    """
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        sizes: dict[int, int] = {}
        if _expanded(node, sizes) - len(sizes) > MAX_EXPANDED:
            raise ConfigError(f"its aliases expand to more than {MAX_EXPANDED:,} nodes.")
        return loader.construct_document(node)
    finally:
        loader.dispose()


def _expanded(node: yaml.Node, sizes: dict[int, int]) -> int:
    """The number of nodes under `node` with every alias expanded; `sizes` remembers it by node."""
    known = sizes.get(id(node))
    if known is not None:
        if known == 0:  # it is being counted: it holds itself
            raise ConfigError(f"an alias stands inside what it names{_place(node)}.")
        return known
    sizes[id(node)] = 0
    children: list[yaml.Node] = []
    if isinstance(node, yaml.MappingNode):
        _refuse_repeated(node)
        children = [child for pair in node.value for child in pair]
    elif isinstance(node, yaml.SequenceNode):
        children = node.value
    sizes[id(node)] = 1 + sum(_expanded(child, sizes) for child in children)
    return sizes[id(node)]


def _refuse_repeated(node: yaml.MappingNode) -> None:
    seen = set()
    for key, _ in node.value:
        if isinstance(key, yaml.ScalarNode):
            if (key.tag, key.value) in seen:
                raise ConfigError(f"the key {shown(key.value)} stands twice in one mapping{_place(key)}.")
            seen.add((key.tag, key.value))


def _place(node: Any) -> str:
    return f" (line {node.start_mark.line + 1}, column {node.start_mark.column + 1})"
