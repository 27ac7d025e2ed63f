"""The generated table of what provides which loss."""

from losses_core._catalogue import CATALOGUE


def test_rows_are_names_and_distributions_in_order() -> None:
    assert list(CATALOGUE) == sorted(CATALOGUE)
    assert all(name.isidentifier() for name in CATALOGUE)
    assert all(distribution.startswith("losses-") for distribution in CATALOGUE.values())
    assert CATALOGUE["CrossEntropyLoss"] == "losses-cls"
