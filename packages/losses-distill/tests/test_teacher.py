"""What holds for the teacher of every loss: any grad mode, no gradient, never written to."""

from __future__ import annotations

import pytest
import torch

from losses_core.utils.precision import map_tensors
from losses_testkit.runs import call, leaves, prepared, run

from .cases import CASES

# one case of each loss, and those with parts of their own
CHOSEN = [
    case for case in CASES if case.id in ("", "normalize", "adapter", "stages", "batch", "heads", "memory", "tokens")
]


def _with_target(inputs, target):
    return type(inputs)(inputs.pred, target, inputs.call)


def _map(tree, function):
    """Apply a function to the floating tensors of a target."""
    return map_tensors(lambda t: function(t) if t.is_floating_point() else t, tree)


@pytest.mark.parametrize("case", CHOSEN, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
def test_a_teacher_made_in_inference_mode_works(case, dtype):
    inputs = prepared(case.inputs(4), torch.float32)
    with torch.inference_mode():
        target = _map(inputs.target, lambda t: t.clone().to(dtype))
    ordinary = _map(inputs.target, lambda t: t.to(dtype))
    value, gradients = run(case.build(), _with_target(inputs, target))
    expected, wanted = run(case.build(), _with_target(inputs, ordinary))
    torch.testing.assert_close(value, expected, rtol=0, atol=0)
    for gradient, want in zip(gradients, wanted, strict=True):
        torch.testing.assert_close(gradient, want, rtol=0, atol=0)
    for made, given in zip(leaves(target), leaves(ordinary), strict=True):
        assert made.is_inference() or not made.is_floating_point()
        assert torch.equal(made, given)


@pytest.mark.parametrize("case", CHOSEN, ids=str)
def test_everything_may_happen_in_inference_mode(case):
    inputs = prepared(case.inputs(4), torch.float32)
    expected = call(case.build(), inputs)
    loss = case.build()
    with torch.inference_mode():
        torch.testing.assert_close(call(loss, inputs), expected.detach())
    # and the loss trains afterwards
    call(loss, inputs).sum().backward()


@pytest.mark.parametrize("case", CHOSEN, ids=str)
def test_no_gradient_reaches_the_teacher(case):
    if case.options.get("teacher_detach") is False:
        pytest.skip("mutual learning")
    inputs = prepared(case.inputs(4), torch.float32)
    target = _map(inputs.target, lambda t: t.clone().requires_grad_())
    call(case.build(), _with_target(inputs, target)).sum().backward()
    assert all(t.grad is None for t in leaves(target))
    assert any(t.requires_grad for t in leaves(target))


@pytest.mark.parametrize("case", CHOSEN, ids=str)
def test_the_teacher_is_not_written_to(case):
    inputs = prepared(case.inputs(4), torch.float32)
    versions = [t._version for t in leaves(inputs.target)]
    loss = case.build()
    for _ in range(2):
        call(loss, inputs).sum().backward()
    assert [t._version for t in leaves(inputs.target)] == versions


@pytest.mark.parametrize("case", CHOSEN, ids=str)
def test_batches_that_differ_are_an_error(case):
    inputs, fewer = prepared(case.inputs(4)), prepared(case.inputs(3))
    shapes = [tuple(leaves(tree)[0].shape) for tree in (inputs.pred, fewer.target)]
    with pytest.raises(ValueError) as caught:
        call(case.build(), _with_target(inputs, fewer.target))
    assert all(str(shape) in str(caught.value) for shape in shapes)
