"""Packages that are broken: each is named, and touches no other."""

import pytest

from losses_core import Registry
from losses_core.errors import LossLoadError
from losses_testkit.fake_distributions import FakeSite

from .conftest import GROUP, install


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("import a_module_that_is_not_there", "but could not be imported: ModuleNotFoundError: No module named 'a_mod"),
        ("raise RuntimeError('boom')", "but could not be imported: RuntimeError: boom"),
        ("raise SystemExit(3)", "but could not be imported: SystemExit: 3"),
        ("class Stop(BaseException): pass\nraise Stop('now')", "but could not be imported: Stop: now"),
        (
            "class Stop(BaseException):\n    def __str__(self): raise self\nraise Stop",
            "but could not be imported: Stop: ",
        ),
        ("x = ", "but could not be imported: SyntaxError:"),
        ("", "but could not be imported: AttributeError: module 'fake_broken' has no attribute 'CIoULoss'"),
        ("class CIoULoss: pass", "but is not a subclass of BaseLoss: it is <class 'fake_broken.CIoULoss'>."),
        ("CIoULoss = 3", "but is not a subclass of BaseLoss: it is 3."),
    ],
)
def test_broken_packages_are_named_and_touch_no_other(
    site: FakeSite, registry: Registry, source: str, text: str
) -> None:
    site.install("acme-det", {"CIoULoss": "fake_broken:CIoULoss"}, version="0.3.0", group=GROUP)
    site.write("fake_broken", source)
    install(site, "acme-seg", "DiceLoss")
    assert list(registry) == ["CIoULoss", "DiceLoss"]
    assert registry["DiceLoss"].__name__ == "DiceLoss"
    with pytest.raises(LossLoadError) as caught:
        registry["CIoULoss"]
    start = "'CIoULoss' is declared by acme-det 0.3.0 as fake_broken:CIoULoss "
    assert str(caught.value).startswith(start + text)
    assert isinstance(caught.value, ImportError)
    assert not registry.describe("CIoULoss").loaded
    failed = registry.load_all()
    assert list(failed) == ["CIoULoss"]
    assert str(failed["CIoULoss"]) == str(caught.value)


def test_an_interrupt_from_the_keyboard_is_none_of_the_packages(site: FakeSite, registry: Registry) -> None:
    site.install("acme-det", {"CIoULoss": "fake_interrupted:CIoULoss"}, group=GROUP)
    site.write("fake_interrupted", "raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        registry["CIoULoss"]


def test_a_malformed_target_is_a_load_error(site: FakeSite, registry: Registry) -> None:
    site.install("acme", {"DiceLoss": "not a module!", "OtherLoss": "json"}, group=GROUP)
    for name in registry:
        with pytest.raises(LossLoadError, match=f"'{name}' is declared by acme 1.0 as "):
            registry[name]


def test_faulty_metadata_is_noted_and_hides_no_other(site: FakeSite, registry: Registry) -> None:
    site.install("acme-malformed", entry_points=f"[{GROUP}]\nno equals sign\n")
    site.install("acme-nameless", {"ALoss": "a:ALoss"}, group=GROUP, metadata="Metadata-Version: 2.1\n")
    info = site.install("acme-empty", {"BLoss": "b:BLoss"}, group=GROUP)
    (info / "METADATA").unlink()
    (site.install("acme-binary") / "entry_points.txt").write_bytes(b"\xff\xfe\x00")
    site.install("acme-twice", entry_points=f"[{GROUP}]\nCLoss = c:CLoss\nCLoss = d:CLoss\n")
    site.install(
        "acme-unversioned", {"DLoss": "d:DLoss"}, group=GROUP, metadata="Metadata-Version: 2.1\nName: acme-u\n"
    )
    # malformed in a group of no interest
    site.install("unrelated", entry_points="[console_scripts]\nno equals sign\n")
    install(site, "acme-seg", "DiceLoss")
    assert registry["DiceLoss"]
    assert list(registry) == ["CLoss", "DLoss", "DiceLoss"]
    assert registry.describe("CLoss").target == "c:CLoss"
    assert registry.describe("DLoss").version == "of unknown version"
    problems = registry.scan().problems
    assert len(problems) == 5
    assert sum(str(site.folder) in problem for problem in problems) == 4
    assert "acme-twice 1.0 declares 'CLoss' twice; the first is used." in problems
