"""The marker of the contract's slow tests, registered for every project that runs it."""

import pytest


def pytest_configure(config: pytest.Config) -> None:
    """Register ``unmeasured``."""
    config.addinivalue_line("markers", "unmeasured: slow, and runs what other tests run: coverage is not measured")
