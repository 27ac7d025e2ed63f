"""LovaszLoss and LovaszHingeLoss against the published algorithm, written out here with autograd."""

import pytest
import torch

from losses_core import InputError, _blocks, build_loss
from losses_core._memory import PeakMemory
from losses_core.kernels import use_definitions
from losses_seg import LovaszHingeLoss, LovaszLoss


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def jaccard_steps(sorted_truth):
    total = sorted_truth.sum()
    union = total + (1 - sorted_truth).cumsum(0)
    jaccard = 1 - (total - sorted_truth.cumsum(0)) / union
    return torch.cat([jaccard[:1], jaccard.diff()])


def published(x, y, *, per_image=False, classes="present", ignore=255):
    """Algorithm 1 of the paper, class by class, after the ignored pixels have been taken out."""
    p, values = x.softmax(1), []
    for images in [[i] for i in range(len(x))] if per_image else [range(len(x))]:
        kept = torch.cat([(y[i] != ignore).flatten() for i in images])
        truth = torch.cat([y[i].flatten() for i in images])[kept]
        probability = torch.cat([p[i].flatten(1) for i in images], 1)[:, kept]
        losses = []
        for c in range(x.shape[1]) if isinstance(classes, str) else classes:
            g = (truth == c).to(x.dtype)
            if classes == "present" and not g.any():
                continue
            errors, order = (g - probability[c]).abs().sort(descending=True)
            losses.append(errors @ jaccard_steps(g[order]))
        values.append(torch.stack(losses).mean())
    return torch.stack(values).mean()


def published_hinge(x, y, ignore=255):
    kept = y != ignore
    sign = 2.0 * y[kept] - 1
    errors, order = (1 - x[kept] * sign).sort(descending=True)
    return errors.relu() @ jaccard_steps(y[kept][order].to(x.dtype))


def same(actual, expected, x):
    torch.testing.assert_close(actual, expected, atol=1e-6, rtol=1e-6)
    (got,), (want,) = (torch.autograd.grad(value, x) for value in (actual, expected))
    torch.testing.assert_close(got, want, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("classes", ["present", "all", [0, 2]])
@pytest.mark.parametrize("per_image", [False, True])
@pytest.mark.parametrize("ignored", [False, True])
@pytest.mark.parametrize("shape", [(9, 8), (3, 4, 5)])
def test_equals_the_published_algorithm(dtype, classes, per_image, ignored, shape):
    x = (2 * torch.randn(3, 5, *shape, dtype=dtype)).requires_grad_()
    y = torch.randint(4, (3, *shape))  # class 4 does not occur
    if ignored:
        y[torch.rand(y.shape) < 0.3] = 255
    loss = LovaszLoss(per_image=per_image, classes=classes)
    same(loss(x, y), published(x, y, per_image=per_image, classes=classes), x)


@pytest.mark.parametrize("classes", ["present", "all", [0, 2]])
def test_a_string_from_a_file_is_compared_by_value(classes, tmp_path):
    """``classes is 'present'`` would be false for it."""
    x, y = torch.randn(2, 5, 6, 6), torch.randint(3, (2, 6, 6))
    config = {"type": "LovaszLoss", "classes": "".join(classes) if isinstance(classes, str) else classes}
    torch.testing.assert_close(build_loss(config)(x, y), published(x, y, classes=classes))


def test_present_from_yaml(tmp_path):
    pytest.importorskip("yaml", reason="PyYAML is an extra of losses-core")
    from losses_core import load_config

    path = tmp_path / "loss.yaml"
    path.write_text("loss: {type: LovaszLoss, classes: present}")
    x, y = torch.randn(2, 5, 6, 6), torch.randint(3, (2, 6, 6))
    value = build_loss(load_config(path))(x, y)
    torch.testing.assert_close(value, published(x, y, classes="present"))
    assert (value - published(x, y, classes="all")).abs() > 0.01


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("ignored", [False, True])
def test_hinge_equals_the_published_algorithm(dtype, ignored):
    x = (2 * torch.randn(3, 9, 8, dtype=dtype)).requires_grad_()
    y = torch.randint(2, (3, 9, 8))
    if ignored:
        y[torch.rand(y.shape) < 0.3] = 255
    same(LovaszHingeLoss()(x, y), published_hinge(x, y), x)
    expected = torch.stack([published_hinge(a, b) for a, b in zip(x, y, strict=True)]).mean()
    same(LovaszHingeLoss(per_image=True)(x[:, None], y), expected, x)


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
def test_a_scalar_over_the_batch_passes_every_reduction(reduction):
    x, y = torch.randn(2, 3, 5, 5), torch.randint(3, (2, 5, 5))
    torch.testing.assert_close(LovaszLoss(reduction=reduction)(x, y), published(x, y))


def test_a_fully_ignored_image_is_no_image():
    x, y = torch.randn(2, 3, 5, 5), torch.randint(3, (2, 5, 5))
    y[1] = 255
    loss = LovaszLoss(per_image=True)
    torch.testing.assert_close(loss(x, y), loss(x[:1], y[:1]))
    assert LovaszLoss(per_image=True, reduction="none")(x, y)[1] == 0
    z, w = x[:, :1], (y > 0).long().where(y != 255, 255)
    hinge = LovaszHingeLoss(per_image=True)
    torch.testing.assert_close(hinge(z, w), hinge(z[:1], w[:1]))


def test_the_loss_of_certain_predictions_is_the_jaccard_loss():
    """It is an extension: on masks it is 1 - IoU itself."""
    y, guess = torch.randint(2, (1, 30, 30)), torch.randint(2, (1, 30, 30))
    pred = torch.nn.functional.one_hot(guess, 2).movedim(-1, 1).float()
    iou = [((y == c) & (guess == c)).sum() / ((y == c) | (guess == c)).sum() for c in range(2)]
    value = LovaszLoss(activation="none")(pred, y)
    torch.testing.assert_close(value, 1 - torch.stack(iou).mean())


@pytest.mark.parametrize("loss", [LovaszLoss(), LovaszLoss(per_image=True), LovaszLoss(classes="all")])
@pytest.mark.parametrize("label", [0, 1])
def test_ties_and_full_masks(loss, label):
    x = torch.zeros(2, 3, 4, 4, requires_grad=True)
    value = loss(x, torch.full((2, 4, 4), label))
    value.backward()
    assert value.isfinite()
    assert x.grad.isfinite().all()
    assert x.grad.any()


def test_class_weight():
    x, y = torch.randn(1, 3, 6, 6), torch.randint(3, (1, 6, 6))
    each = torch.stack([LovaszLoss(classes=[c])(x, y) for c in range(3)])
    weight = torch.tensor([1.0, 0.0, 3.0])
    torch.testing.assert_close(LovaszLoss(class_weight=weight)(x, y), (each * weight).sum() / 4)


def test_hinge_refuses_several_channels():
    with pytest.raises(InputError, match="go to LovaszLoss"):
        LovaszHingeLoss()(torch.randn(2, 2, 4, 4), torch.randint(2, (2, 4, 4)))
    with pytest.raises(InputError, match="takes no sample weight with per_image=False"):
        LovaszHingeLoss()(torch.randn(2, 1, 4, 4), torch.randint(2, (2, 4, 4)), torch.ones(2))


HARD = torch.nn.functional.one_hot(torch.arange(84).view(2, 6, 7) % 4, 4).movedim(-1, 1)


@pytest.mark.parametrize("options", [{}, {"per_image": True}, {"classes": [0, 3]}, {"classes": "all"}], ids=str)
@pytest.mark.parametrize("activation", ["auto", "sigmoid", "none"])
@pytest.mark.parametrize("target", [HARD.argmax(1), HARD, HARD * 0.7 + 0.1], ids=["labels", "one-hot", "soft"])
@pytest.mark.parametrize("block", [7, 64, 1 << 16])
def test_the_kernel_equals_the_definition(block, target, activation, options, monkeypatch):
    x = torch.randn(2, 4, 6, 7, dtype=torch.double).softmax(1).requires_grad_()
    target = target.clone()
    target[0, ..., :2, :] = 255
    loss = LovaszLoss(activation=activation, class_weight=[1.0, 0.5, 0.0, 2.0], **options)
    with use_definitions():
        expected = loss(x, target)
        expected = (expected, *torch.autograd.grad(expected, x))
    monkeypatch.setattr(_blocks, "CPU_BLOCK", block)
    value = loss(x, target)
    torch.testing.assert_close((value, *torch.autograd.grad(value, x)), expected)


def test_a_soft_target_gets_its_gradient():
    x, q = torch.randn(2, 3, 11, dtype=torch.double), torch.rand(2, 3, 11, dtype=torch.double)
    for options in ({}, {"per_image": True}):
        loss = LovaszLoss(**options)
        assert torch.autograd.gradcheck(
            lambda x, q, loss=loss: loss(x, q), (x.requires_grad_(), q.requires_grad_()), atol=1e-6
        )


@pytest.mark.parametrize("loss", [LovaszLoss(), LovaszLoss(classes="all", per_image=True)])
@pytest.mark.parametrize("shape", [(16, 19, 672, 672), (2, 8, 256, 256, 128)])
def test_memory_is_small_beside_the_logits(loss, shape):
    x = torch.empty(shape, dtype=torch.bfloat16, device="meta", requires_grad=True)
    y = torch.empty(shape[:1] + shape[2:], dtype=torch.long, device="meta")
    with PeakMemory() as memory:
        loss(x, y).backward()
    assert memory.peak < 4 * x.numel() * 2


def test_a_small_loss_keeps_its_precision():
    x = 1000 * torch.randn(1, 3, 40, 40)
    y = x.argmax(1)
    value, single = LovaszLoss()(x.double(), y), LovaszLoss()(x, y)
    assert 0 < value < 1e-2
    torch.testing.assert_close(single.double(), value, rtol=1e-5, atol=0)
