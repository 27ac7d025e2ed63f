"""What the contract adds to pytest: the marker of its slow tests, and what to do below a failure."""

from __future__ import annotations

from collections.abc import Generator

import pytest


def pytest_configure(config: pytest.Config) -> None:
    """Register ``unmeasured``."""
    config.addinivalue_line("markers", "unmeasured: slow, and runs what other tests run: coverage is not measured")


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    """Append what to do to the error of a failed test of the contract."""
    try:
        return (yield)
    except Exception as error:
        from losses_testkit.advice import (
            advise,
        )  # when something failed: the plug-in is loaded with every run of pytest
        from losses_testkit.contract import LossContract

        if pyfuncitem.cls is not None and issubclass(pyfuncitem.cls, LossContract):
            text = advise(pyfuncitem.originalname, error)
            if text is not None:
                error.add_note(text)
        raise
