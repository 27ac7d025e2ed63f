"""Which argument goes to which member, and what is said where one is missing."""

from typing import Any

import pytest
import torch

from losses_core import CombinedLoss, ConfigError, InputError

from .small_losses import GapLoss, SizedLoss, SquareLoss, batch


@pytest.fixture
def criterion() -> CombinedLoss:
    return CombinedLoss(
        {"cls": SquareLoss(), "box": GapLoss(), "aux": CombinedLoss({"a": SquareLoss(), "b": GapLoss()})}
    )


def test_mappings_go_by_label(criterion: CombinedLoss) -> None:
    (cls, target), (box, other) = batch(seed=1), batch(5, 2, seed=2)
    pred = {"cls": cls, "box": box, "aux": {"a": cls, "b": box}, "features": "of no interest"}
    terms = criterion.terms(pred, {"cls": target, "box": other, "aux": {"a": target, "b": other}})
    assert torch.equal(terms["cls"], SquareLoss()(cls, target))
    assert torch.equal(terms["box"], GapLoss()(box, other))
    assert torch.equal(terms["aux.a"], terms["cls"])
    assert torch.equal(terms["aux.b"], terms["box"])


def test_one_argument_may_be_a_mapping_and_another_not(criterion: CombinedLoss) -> None:
    pred, target = batch()
    terms = criterion.terms({"cls": pred, "box": pred * 2, "aux": pred * 3}, target)
    assert torch.equal(terms["aux.b"], GapLoss()(pred * 3, target))


def test_optional_arguments_may_leave_out_labels(criterion: CombinedLoss) -> None:
    pred, target = batch()
    weight = torch.rand(4)
    plain, weighted = (
        criterion.terms(pred, target),
        criterion.terms(pred, target, {"cls": weight, "aux": {"b": weight}}),
    )
    assert torch.equal(weighted["cls"], SquareLoss()(pred, target, weight))
    assert torch.equal(weighted["box"], plain["box"])
    assert torch.equal(weighted["aux.a"], plain["aux.a"])
    assert torch.equal(weighted["aux.b"], GapLoss()(pred, target, weight))
    for call in ({"avg_factor": 3.0}, {"avg_factor": {"cls": 3.0}}, {"reduction_override": {"cls": "sum"}}):
        found = criterion.terms(pred, target, **call)
        expected = "sum" if "reduction_override" in call else "mean"
        factor = None if expected == "sum" else 3.0
        assert torch.equal(found["cls"], SquareLoss()(pred, target, None, factor, expected))
        assert torch.equal(found["box"], plain["box"]) == (call != {"avg_factor": 3.0})
    everywhere = criterion.terms(pred, target, weight)
    assert torch.equal(everywhere["aux.b"], weighted["aux.b"])
    assert torch.equal(everywhere["box"], weighted["aux.b"])


def test_keywords_go_to_those_that_declare_them(criterion: CombinedLoss) -> None:
    pred, target = batch()
    mask = (target > 0).float()
    terms = criterion.terms(pred, target, mask=mask)
    assert torch.equal(terms["cls"], SquareLoss()(pred, target, mask=mask))
    assert torch.equal(terms["aux.a"], terms["cls"])
    assert torch.equal(terms["box"], GapLoss()(pred, target))
    routed = criterion.terms(pred, target, mask={"aux": mask})
    assert torch.equal(routed["cls"], SquareLoss()(pred, target))
    assert torch.equal(routed["aux.a"], terms["aux.a"])


def test_keywords_that_nobody_declares(criterion: CombinedLoss) -> None:
    pred, target = batch()
    with pytest.raises(TypeError, match=r"unknown keyword 'msk': no term declares it\. Did you mean 'mask'\?"):
        criterion(pred, target, msk=1)
    with pytest.raises(TypeError, match="the term 'box' has no keyword 'mask'"):
        criterion(pred, target, mask={"box": target})
    with pytest.raises(TypeError, match="unknown keyword 'mask'"):
        CombinedLoss([GapLoss()])(pred, target, mask=target)


def test_a_mistyped_label_is_not_ignored(criterion: CombinedLoss) -> None:
    pred, target = batch()
    weight = {"cls": torch.rand(4), "bix": torch.rand(4)}
    with pytest.raises(InputError) as caught:
        criterion(pred, target, weight)
    assert str(caught.value) == (
        "weight has an entry for 'bix', but there is no such term. Did you mean 'box'? The terms are: cls, box, aux."
    )


def test_missing_entries(criterion: CombinedLoss) -> None:
    pred, target = batch()
    with pytest.raises(InputError, match=r"^term 'box': expected a pred, got none: give one for this label"):
        criterion({"cls": pred, "bix": pred, "aux": pred}, target)
    with pytest.raises(InputError, match=r"^term 'aux\.b': expected a target, got none"):
        criterion(pred, {"cls": target, "box": target, "aux": {"a": target}})
    with pytest.raises(InputError, match=r"^term 'aux\.a': expected a pred, got none"):
        criterion({"cls": pred, "box": pred}, target)
    with pytest.raises(InputError, match=r"^term 'cls': expected a target, got none"):
        criterion(pred)


def test_an_error_of_a_member_names_the_term() -> None:
    criterion = CombinedLoss({"a": CombinedLoss({"b": GapLoss()})})
    with pytest.raises(InputError, match=r"^term 'a\.b': GapLoss: expected"):
        criterion(torch.zeros(2, dtype=torch.long), torch.zeros(2))


def test_inputs_are_looked_up() -> None:
    pred, target = batch()
    criterion = CombinedLoss(
        {
            "kd": SquareLoss(),
            "task": GapLoss(),
            "aux": CombinedLoss([GapLoss()], {"gap": {"pred": "s.f.1", "target": "y"}}),
        },
        {"kd": {"pred": "s.logits", "target": "t.logits", "mask": "m"}, "task": {"pred": "s.logits", "target": "y"}},
    )
    mask = (target > 0).float()
    data = {"s": {"logits": pred, "f": [None, pred * 2]}, "t": {"logits": target}, "y": target * 2, "m": mask}
    terms = criterion.terms(data)
    assert torch.equal(terms["kd"], SquareLoss()(pred, target, mask=mask))
    assert torch.equal(terms["task"], GapLoss()(pred, target * 2))
    assert torch.equal(terms["aux.gap"], GapLoss()(pred * 2, target * 2))
    # an entry that has the name of a combined term changes nothing: paths start at the data as given
    assert torch.equal(criterion.terms(data | {"aux": {"s": None}})["aux.gap"], terms["aux.gap"])
    weighted = criterion.terms(data, weight={"task": torch.zeros(4)}, avg_factor=2.0)
    assert weighted["task"] == 0
    assert torch.equal(weighted["kd"], SquareLoss()(pred, target, mask=mask, avg_factor=2.0))


def test_members_with_and_without_inputs() -> None:
    pred, target = batch()
    criterion = CombinedLoss({"a": GapLoss(), "b": GapLoss()}, {"b": {"pred": "out.x", "target": "out.y"}})
    data = {"a": pred, "out": {"x": pred * 2, "y": target * 2}}
    terms = criterion.terms(data, target)
    assert torch.equal(terms["a"], GapLoss()(pred, target))
    assert torch.equal(terms["b"], GapLoss()(pred * 2, target * 2))
    with pytest.raises(InputError, match="term 'a': expected a target, got none"):
        criterion(data)


@pytest.mark.parametrize(
    ("path", "text"),
    [
        (
            "student.logit",
            "no 'student.logit' in the data: 'student' has the keys logits, feats. Did you mean 'logits'?",
        ),
        ("studnt.logits", "no 'studnt.logits' in the data: the data has the keys student. Did you mean 'student'?"),
        (
            "student.feats.2",
            "no 'student.feats.2' in the data: 'student.feats' is a list of 2, and '2' is no index into",
        ),
        (
            "student.feats.x",
            "no 'student.feats.x' in the data: 'student.feats' is a list of 2, and 'x' is no index into",
        ),
        (
            "student.logits.x",
            "no 'student.logits.x' in the data: 'student.logits' is a Tensor, expected a mapping with",
        ),
    ],
)
def test_a_path_that_leads_nowhere(path: str, text: str) -> None:
    pred, target = batch()
    data: Any = {"student": {"logits": pred, "feats": [pred, pred]}}
    criterion = CombinedLoss({"o": CombinedLoss([GapLoss()], {"gap": {"pred": path, "target": "y"}})})
    with pytest.raises(InputError) as caught:
        criterion(data)
    assert str(caught.value).startswith(f"term 'o.gap': inputs.pred: {text}")
    with pytest.raises(InputError, match="the data is a Tensor, expected a mapping with"):
        criterion(pred, target)
    with pytest.raises(InputError, match=r"the data has the keys \(none\)"):
        criterion({})


@pytest.mark.parametrize(
    ("inputs", "text"),
    [
        ({"gop": {"pred": "a", "target": "b"}}, "inputs: there is no term 'gop'. Did you mean 'gap'"),
        ({"gap": {"pred": "a"}}, "inputs: expected an entry for 'target', got: pred"),
        ({"gap": {"pred": "a", "target": "b", "mask": "c"}}, "inputs.mask: GapLoss has no argument 'mask'"),
        ({"combined": {"pred": "a", "target": "b"}}, "inputs: a combined loss takes no inputs; give them to its terms"),
    ],
)
def test_faulty_inputs(inputs: Any, text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        CombinedLoss([GapLoss(), CombinedLoss([GapLoss()])], inputs)
    assert str(caught.value).startswith(text)


def test_a_member_whose_label_is_in_the_data() -> None:
    """A term with inputs reads the data, whatever else has its name there."""
    pred, target = batch()
    criterion = CombinedLoss([SizedLoss(3)], {"sized": {"pred": "sized", "target": "y", "power": "p"}})
    assert torch.equal(criterion({"sized": pred, "y": target, "p": 2.0}), SizedLoss(3)(pred, target, power=2.0))
