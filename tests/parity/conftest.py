"""The peers, started when a test first asks for one and ended after the last test."""

from collections.abc import Iterator

import pytest

from .peers import Peers


@pytest.fixture(scope="session")
def peer() -> Iterator[Peers]:
    peers = Peers()
    yield peers
    peers.close()
