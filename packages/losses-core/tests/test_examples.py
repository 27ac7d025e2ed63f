"""The kinds of inputs: shapes, ranges, and what they read of a loss."""

import dataclasses
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from losses_core import InputError, examples
from losses_core.examples import Example


def a_loss(*keywords: str, **parameters: Any) -> Any:
    """What a kind reads of a loss."""
    vectors = tuple(name for name, value in parameters.items() if isinstance(value, list))
    return SimpleNamespace(call_keywords=lambda: frozenset(keywords), _vectors=vectors, **parameters)


KINDS = {name: kind for name, kind in vars(examples).items() if isinstance(kind, Example)}


@pytest.mark.parametrize(
    ("kind", "loss", "pred", "target"),
    [
        ("LABELS", a_loss(), (8, 10), (8,)),
        ("LABELS", a_loss(class_weight=[1, 2, 3]), (8, 3), (8,)),
        ("LABELS", a_loss(num_classes=7), (8, 7), (8,)),
        ("PIXELS", a_loss(class_weight=None), (2, 10, 64, 64), (2, 64, 64)),
        ("DISTRIBUTIONS", a_loss(), (8, 10), (8, 10)),
        ("BINARY", a_loss(pos_weight=[1, 2]), (8, 2), (8, 2)),
        ("MASKS", a_loss(), (2, 1, 64, 64), (2, 1, 64, 64)),
        ("SCORES", a_loss(), (8, 10), (8, 10)),
        ("QUALITY", a_loss(), (8, 10), ((8,), (8,))),
        ("VALUES", a_loss(), (8, 4), (8, 4)),
        ("BOXES", a_loss(), (8, 4), (8, 4)),
        ("BINS", a_loss(reg_max=7), (8, 8), (8,)),
        ("LOGITS", a_loss(), (8, 10), (8, 10)),
        ("CORRELATED", a_loss(), (8, 10), (8, 10)),
        ("FEATURES", a_loss(), (4, 16, 8, 8), (4, 16, 8, 8)),
        ("FEATURES", a_loss(student_channels=3, teacher_channels=5), (4, 3, 8, 8), (4, 5, 8, 8)),
        ("EMBEDDINGS", a_loss(student_channels=3, teacher_channels=5), (16, 3), (16, 5)),
    ],
)
def test_shapes(kind: str, loss: Any, pred: Any, target: Any) -> None:
    inputs = KINDS[kind].inputs(loss)
    assert inputs.pred.shape == pred
    if isinstance(target[0], tuple):
        assert tuple(part.shape for part in inputs.target) == target
    else:
        assert inputs.target.shape == target
    again = KINDS[kind].inputs(loss)
    assert torch.equal(inputs.pred, again.pred)
    assert not torch.equal(inputs.pred, KINDS[kind].inputs(loss, seed=1).pred)


def test_every_kind_is_tested() -> None:
    assert {*KINDS} <= set(examples.__all__)
    tested = {mark.args[1][i][0] for mark in test_shapes.pytestmark for i in range(len(mark.args[1]))}  # type: ignore[attr-defined]
    assert tested == {*KINDS}


def test_shapes_that_are_given() -> None:
    labels = examples.LABELS.inputs(a_loss(), (2, 5, 4, 6, 20))
    assert labels.target.shape == (2, 4, 6, 20)
    assert labels.target.dtype == torch.int64
    assert 0 <= labels.target.min() < labels.target.max() < 5
    soft = examples.LABELS.inputs(a_loss(), (2, 5, 3), (2, 5, 3)).target
    torch.testing.assert_close(soft.sum(1), torch.ones(2, 3))
    assert examples.LABELS.inputs(a_loss(), (2, 5, 3), (2, 1, 3)).target.shape == (2, 1, 3)
    assert examples.QUALITY.inputs(a_loss(), (9, 5), (9, 5)).target.shape == (9, 5)
    assert examples.BINS.inputs(a_loss(reg_max=7), (9, 4, 8)).target.shape == (9, 4)
    assert examples.BINS.inputs(a_loss(reg_max=7), (9, 32)).target.shape == (9, 4)
    tokens = examples.FEATURES.inputs(a_loss(student_channels=6, teacher_channels=5), (2, 9, 6))
    assert tokens.target.shape == (2, 9, 5)


def test_shapes_that_do_not_fit() -> None:
    for kind in (examples.LABELS, examples.QUALITY):
        with pytest.raises(InputError, match="two axes or more, as 8x10; got 8"):
            kind.inputs(a_loss(), (8,))
    with pytest.raises(InputError, match="boxes, as 8x4; got 8x5"):
        examples.BOXES.inputs(a_loss(), (8, 5))


def test_labels_come_in_blocks() -> None:
    labels = examples.PIXELS.inputs(a_loss()).target.unfold(1, 8, 8).unfold(2, 8, 8)
    assert torch.equal(labels.amin((-1, -2)), labels.amax((-1, -2)))
    assert len(labels.unique()) > 5


def test_values() -> None:
    binary = examples.BINARY.inputs(a_loss(), (100, 20)).target
    assert set(binary.unique().tolist()) == {0.0, 1.0}
    assert (binary[:, 0] != binary[:, 1]).any()  # classes are no axis of space
    scores = examples.SCORES.inputs(a_loss(), (100, 20)).target
    assert 0.15 < (scores > 0).double().mean() < 0.35
    label, score = examples.QUALITY.inputs(a_loss(), (1000, 3)).target
    assert set(label.unique().tolist()) == {0, 1, 2, 3}
    assert 0 <= score.min() < score.max() < 1
    boxes = torch.stack(examples.BOXES.inputs(a_loss(), (1000, 4))[:2])
    assert (boxes[..., 2:] > boxes[..., :2]).all()  # corners
    assert (boxes > 0).all()  # or sizes
    bins = examples.BINS.inputs(a_loss(reg_max=7), (1000, 8)).target
    assert 0 <= bins.min() < 1 < 6 < bins.max() < 7


def test_keywords_of_the_call() -> None:
    assert not examples.LOGITS.inputs(a_loss("temperature")).call
    labels = examples.LOGITS.inputs(a_loss("labels"), (2, 5, 4, 4)).call["labels"]
    assert labels.shape == (2, 4, 4)
    assert labels.max() < 5
    assert not examples.EMBEDDINGS.inputs(a_loss()).call
    index = examples.EMBEDDINGS.inputs(a_loss("sample_idx"), (6, 2)).call["sample_idx"]
    assert index.tolist() == [0, 1, 2, 3, 4, 5]
    index = examples.EMBEDDINGS.inputs(a_loss("sample_idx", num_samples=4), (6, 2)).call["sample_idx"]
    assert index.tolist() == [0, 1, 2, 3, 0, 1]


def test_probabilities() -> None:
    kind = examples.BINARY.probabilities_if("with_logits", False)
    logits = kind.inputs(a_loss(with_logits=True)).pred
    torch.testing.assert_close(kind.inputs(a_loss(with_logits=False)).pred, logits.sigmoid())
    kind = examples.PIXELS.probabilities_if("activation", "none")
    torch.testing.assert_close(kind.inputs(a_loss(activation="none")).pred.sum(1), torch.ones(2, 64, 64))
    assert kind.inputs(a_loss(activation="none"), (2, 1, 4, 4)).pred.amax() < 1
    t = torch.tensor(0.0, dtype=torch.float64)
    assert kind.at(a_loss(activation="none"), "", t).pred.sum(1).allclose(torch.ones(()).double())


PARAMETERS = {"reg_max": 16, "bbox_format": "xyxy"}


@pytest.mark.parametrize("name", KINDS)
def test_paths(name: str) -> None:
    """The point t is where it says: in float64, with a gradient, and the target does not depend on it."""
    kind, loss = KINDS[name], a_loss("labels", "sample_idx", **PARAMETERS)
    assert kind.path is not None
    for line in kind.path.lines:
        t = torch.tensor(1.5, dtype=torch.float64, requires_grad=True)
        inputs = kind.at(loss, line, t)
        assert inputs.pred.dtype == torch.float64
        assert inputs.pred.requires_grad
        assert not inputs.target.requires_grad
        moved = kind.at(loss, line, t + 1)
        assert torch.equal(moved.target, inputs.target)
        assert not torch.equal(moved.pred, inputs.pred)


@pytest.mark.parametrize("name", ["LABELS", "PIXELS", "DISTRIBUTIONS", "BINARY"])
def test_paths_have_as_many_classes_as_the_loss(name: str) -> None:
    kind, loss = KINDS[name], a_loss(class_weight=[1, 2, 3])
    assert kind.path is not None
    for line in kind.path.lines:
        assert kind.at(loss, line, torch.tensor(1.0, dtype=torch.float64)).pred.shape[1] == 3


@pytest.mark.parametrize(
    ("bbox_format", "pred", "target"),
    [
        ("xyxy", [-0.5, -0.5, 1.5, 0.5], [-0.5, -0.5, 0.5, 0.5]),
        ("xywh", [0.5, 0, 2, 1], [0, 0, 1, 1]),
        ("cxcywh", [0.5, 0, 2, 1], [0, 0, 1, 1]),
        ("ltwh", [-0.5, -0.5, 2, 1], [-0.5, -0.5, 1, 1]),
    ],
)
def test_boxes_are_in_the_format_of_the_loss(bbox_format: str, pred: list[float], target: list[float]) -> None:
    t = torch.tensor(0.5, dtype=torch.float64)
    inputs = examples.BOXES.at(a_loss(bbox_format=bbox_format), "box twice as wide", t)
    assert inputs.pred.tolist() == [pred]
    assert inputs.target.tolist() == [target]


def test_angle() -> None:
    t = torch.tensor(60.0, dtype=torch.float64)
    student, teacher, _ = examples.EMBEDDINGS.at(a_loss(), "", t)
    torch.testing.assert_close((student * teacher).sum(1), torch.full((8,), 0.5).double())


def test_no_path() -> None:
    kind = dataclasses.replace(examples.VALUES, path=None)
    with pytest.raises(InputError, match="SimpleNamespace: its example has no path"):
        kind.at(a_loss(), "", torch.tensor(0.0))
