"""Definitions and kernels: which of them runs, and that blocks, weights, precision and autograd change no number."""

import pytest
import torch
import torch.nn.functional as F

from losses_core import BaseLoss, InputError, _blocks
from losses_core._memory import PeakMemory
from losses_core.kernels import Kernel, definition, definition_of, explain, kernel, use_definitions
from losses_core.utils.torch_compat import is_exporting

CALLS = []  # what ran


@definition(
    layout="classes",
    normalizer=lambda pred, target, class_weight, ignore_index: target != ignore_index,
)
def labelled(pred, target, *, class_weight=None, ignore_index=-100):
    """Cross-entropy of labels."""
    if not torch.compiler.is_compiling() or is_exporting():
        CALLS.append("definition")
    return F.cross_entropy(pred, target, class_weight, reduction="none", ignore_index=ignore_index)


@kernel(labelled, bound=lambda class_weight, ignore_index: None if class_weight is not None else 1.0)
def labelled_kernel(x, target, *, class_weight, ignore_index, needs_grad):
    if not torch.compiler.is_compiling():
        CALLS.append("kernel")
    ignored = (target == ignore_index).unsqueeze(1)
    index = target.unsqueeze(1).masked_fill(ignored, 0)
    log_p = F.log_softmax(x, 1)
    value = log_p.gather(1, index).neg_().masked_fill_(ignored, 0)
    weight = torch.ones_like(value) if class_weight is None else class_weight[index]
    grad = None
    if needs_grad:
        grad = log_p.exp_().scatter_add_(1, index, torch.full_like(value, -1)).mul_(weight).masked_fill_(ignored, 0)
    return value.mul_(weight).squeeze(1), grad


class LabelledLoss(BaseLoss):
    function = labelled
    class_axis = 1

    def __init__(self, class_weight=None, ignore_index=-100, **options):
        super().__init__(**options)
        self._set_vector("class_weight", class_weight)
        self.ignore_index = ignore_index


@definition(layout="elements")
def squared(pred, target):
    """(pred - target)² of each element."""
    return (pred - target).square()


@kernel(squared)
def squared_kernel(x, target, *, needs_grad):
    error = x - target
    return error.square(), 2 * error if needs_grad else None


class SquaredLoss(BaseLoss):
    function = squared


@definition(layout="channels")
def scaled(pred, target, *, scale=None):
    """(pred - target)² times a number per class."""
    scale = scale.view(-1, *[1] * (pred.ndim - 2))
    return (pred - target).square() * scale


@kernel(scaled)
def scaled_kernel(x, target, *, scale, needs_grad):
    scale = scale.view(-1, *[1] * (x.ndim - 2))
    error = x - target
    return error.square() * scale, 2 * error * scale if needs_grad else None


class ScaledLoss(BaseLoss):
    function = scaled

    def __init__(self, scale, **options):
        super().__init__(**options)
        self._set_vector("scale", scale)


@definition(layout="last", rows=("factor",))
def distance(pred, target, *, factor=None):
    """Euclidean distance of rows, times a factor for each."""
    return (pred - target).norm(dim=-1) * factor


@kernel(distance, bound=1.0)
def distance_kernel(x, target, *, factor, needs_grad):
    error = x - target
    norm = error.norm(dim=-1)
    return norm * factor, error / norm.unsqueeze(-1) * factor.unsqueeze(-1) if needs_grad else None


class DistanceLoss(BaseLoss):
    function = distance


@definition(layout="batch")
def spread(pred, target):
    """The variance of each sample, off a target."""
    return (pred.flatten(1).var(1) - target).square()


@kernel(spread)
def spread_kernel(x, target, *, needs_grad):
    flat = x.flatten(1)
    error = flat.var(1) - target
    centred = flat - flat.mean(1, keepdim=True)
    grad = (4 * error / (flat.shape[1] - 1)).unsqueeze(1) * centred
    return error.square(), grad.view(x.shape) if needs_grad else None


class SpreadLoss(BaseLoss):
    function = spread


@definition(layout="classes")
def class_sums(pred, target):
    """Σ p and Σ p g of each sample and class, (N,2,C)."""
    p = torch.sigmoid(pred)
    return torch.stack([p.flatten(2).sum(2), (p * target).flatten(2).sum(2)], 1)


@kernel(class_sums, passes=2)
class ClassSums:
    number = 2

    @staticmethod
    def forward(x, target):
        p = torch.sigmoid(x)
        return torch.stack([p.flatten(2).sum(2), (p * target).flatten(2).sum(2)], 1)

    @staticmethod
    def backward(x, target, grads):
        p = torch.sigmoid(x)
        lead = (*grads.shape[::2], *[1] * (x.ndim - 2))
        return (grads[:, 0].view(lead) + grads[:, 1].view(lead) * target) * p * (1 - p)


@definition(cast=False)
def overlap(pred, target):
    """One minus the share of the target in the prediction."""
    total, inter = class_sums(pred, target).unbind(1)
    return 1 - inter / total


class OverlapLoss(BaseLoss):
    function = overlap


def inputs(name):
    generator = torch.Generator().manual_seed(0)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    pred = normal(3, 4, 5, 6)
    labels = torch.randint(0, 4, (3, 5, 6), generator=generator)
    labels[0, :2] = -100
    return {
        "labelled": (LabelledLoss(), pred, labels, {}),
        "labelled, weights": (LabelledLoss(class_weight=[1.0, 2.0, 0.5, 3.0]), pred, labels, {}),
        "squared": (SquaredLoss(), pred, normal(3, 4, 5, 6), {}),
        "scaled": (ScaledLoss([1.0, 2.0, 3.0, 0.5]), pred, normal(3, 4, 5, 6), {}),
        "distance": (DistanceLoss(), pred, normal(3, 4, 5, 6), {"factor": normal(3, 4, 5)}),
        "spread": (SpreadLoss(), pred, normal(3), {}),
        "overlap": (OverlapLoss(), pred, (normal(3, 4, 5, 6) > 0).double(), {}),
    }[name]


NAMES = ["labelled", "labelled, weights", "squared", "scaled", "distance", "spread", "overlap"]
WEIGHTS = {
    "none": lambda: None,
    "of samples": lambda: torch.tensor([0.5, 0.0, 2.0], dtype=torch.float64),
    "of a prefix": lambda: torch.rand(3, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64),
}


def value_and_grad(loss, pred, target, **keywords):
    pred = pred.detach().clone().requires_grad_()
    value = loss(pred, target, **keywords)
    incoming = torch.arange(1.0, value.numel() + 1, dtype=value.dtype).view(value.shape)
    return value.detach(), torch.autograd.grad(value, pred, incoming)[0]


@pytest.mark.parametrize("block", [1, 7, 64, 1 << 16])
@pytest.mark.parametrize("weight", WEIGHTS)
@pytest.mark.parametrize("name", NAMES)
def test_blocks_change_no_number(name, weight, block, monkeypatch):
    monkeypatch.setattr(_blocks, "CPU_BLOCK", block)
    loss, pred, target, keywords = inputs(name)
    if name.startswith("labelled") and weight == "of a prefix":
        weighted = {"weight": torch.rand(3, 5, dtype=torch.float64)}
    elif name == "spread" and weight == "of a prefix":
        pytest.skip("one number per sample")
    else:
        weighted = {"weight": WEIGHTS[weight]()}
    for more in ({}, {"reduction_override": "sum"}, {"avg_factor": 7}, {"reduction_override": "none"}):
        call = {**keywords, **weighted, **more}
        actual = value_and_grad(loss, pred, target, **call)
        with use_definitions():
            torch.testing.assert_close(actual, value_and_grad(loss, pred, target, **call))


@pytest.mark.parametrize("name", NAMES)
def test_layouts_in_memory_change_no_number(name, monkeypatch):
    monkeypatch.setattr(_blocks, "CPU_BLOCK", 16)
    loss, pred, target, keywords = inputs(name)
    expected = value_and_grad(loss, pred, target, **keywords)
    for other in (
        pred.contiguous(memory_format=torch.channels_last),
        pred.transpose(2, 3).contiguous().transpose(2, 3),
    ):
        torch.testing.assert_close(value_and_grad(loss, other, target, **keywords), expected)


@pytest.mark.parametrize("name", NAMES)
def test_autograd_in_every_mode(name, monkeypatch):
    monkeypatch.setattr(_blocks, "CPU_BLOCK", 32)
    loss, pred, target, keywords = inputs(name)
    pred = pred.requires_grad_()

    def function(pred):
        return loss(pred, target, **keywords)

    (expected,) = torch.autograd.grad(function(pred), pred)
    value = function(pred) * 3
    (first,) = torch.autograd.grad(value, pred, retain_graph=True)
    torch.testing.assert_close(first, 3 * expected)
    first.fill_(torch.nan)  # whoever was given a gradient may write into it
    torch.testing.assert_close(torch.autograd.grad(value, pred)[0], 3 * expected)

    value = function(pred)
    batched = torch.autograd.grad(value, pred, torch.tensor([1.0, 2.0]).double(), is_grads_batched=True)[0]
    torch.testing.assert_close(batched, torch.stack([expected, 2 * expected]))
    torch.testing.assert_close(torch.func.grad(function)(pred.detach()), expected)
    torch.testing.assert_close(torch.func.vjp(function, pred.detach())[1](value.detach() * 0 + 1)[0], expected)

    (graph,) = torch.autograd.grad(function(pred), pred, create_graph=True)
    (second,) = torch.autograd.grad(graph.square().sum(), pred)
    with use_definitions():
        (graph,) = torch.autograd.grad(function(pred), pred, create_graph=True)
        torch.testing.assert_close(second, torch.autograd.grad(graph.square().sum(), pred)[0])


def test_a_weight_of_zero_masks_nan():
    for name in ("labelled", "squared", "distance"):
        loss, pred, target, keywords = inputs(name)
        pred[1] = torch.nan
        for weight in (torch.tensor([1.0, 0.0, 2.0]), torch.tensor([[1.0], [0.0], [2.0]]).expand(3, 5)):
            if name != "labelled" and weight.ndim == 2:
                continue
            value, grad = value_and_grad(loss, pred, target, weight=weight, **keywords)
            assert value.isfinite()
            assert grad.isfinite().all()
            assert not grad[1].any()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("block", [16, 1 << 16])
@pytest.mark.parametrize("name", NAMES)
def test_half_precision_is_that_of_rounded_inputs(name, block, dtype, monkeypatch):
    monkeypatch.setattr(_blocks, "CPU_BLOCK", block)
    loss, pred, target, keywords = inputs(name)
    half = pred.to(dtype)
    value, grad = value_and_grad(loss, half, target, **keywords)
    expected, wanted = value_and_grad(loss, half.float(), target, **keywords)
    assert (value.dtype, grad.dtype) == (torch.float32, dtype)
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(grad, wanted.to(dtype))


@pytest.mark.parametrize("class_weight", [None, [1.0, 2.0, 0.5, 3.0]], ids=["bound", "no bound"])
def test_a_small_gradient_survives_fp16(class_weight):
    """A gradient of 1e-8 for each of 1,000 rows is 0 in fp16, unless the scale of the GradScaler comes first."""
    pred = torch.zeros(1000, 4, dtype=torch.float16)
    pred[:, 0] = 18  # the other classes have a probability of 1.5e-8
    target = torch.zeros(1000, dtype=torch.long)
    loss = LabelledLoss(class_weight=class_weight)
    for dtype in (torch.float16, torch.float32):
        leaf = pred.detach().to(dtype).requires_grad_()
        (loss(leaf, target, avg_factor=10) * 65536).backward()
        if dtype == torch.float16:
            actual = leaf.grad
    torch.testing.assert_close(actual, leaf.grad.half())
    assert (actual[:, 1:] > 0).all()


@pytest.mark.parametrize(("dtype", "most"), [(torch.float32, 1.3), (torch.bfloat16, 1.3)], ids=str)
@pytest.mark.parametrize("shape", [(1 << 19, 256), (2, 16, 64, 256, 256)], ids=str)
def test_memory_does_not_grow_with_pred(shape, dtype, most):
    pred = torch.empty(shape, dtype=dtype, device="meta", requires_grad=True)
    target = torch.empty(shape[:1] + shape[2:], dtype=torch.long, device="meta")
    with PeakMemory() as memory:
        LabelledLoss(ignore_index=255)(pred, target, avg_factor=5).backward()
    assert pred.grad.dtype == dtype
    assert memory.peak <= most * pred.numel() * pred.element_size()


class TestDispatch:
    def runs(self, *args, loss=None, **keywords):
        CALLS.clear()
        (loss or LabelledLoss())(*args, **keywords)
        return "definition" if "definition" in CALLS else "kernel"

    def test_the_rule(self):
        pred, target = torch.randn(4, 3), torch.tensor([0, 1, 2, -100])
        assert self.runs(pred, target) == "kernel"
        assert self.runs(pred.requires_grad_(), target) == "kernel"
        with use_definitions():
            assert self.runs(pred, target) == "definition"
        assert self.runs(pred, target) == "kernel"
        assert self.runs(pred.as_subclass(type("Marked", (torch.Tensor,), {})), target) == "definition"
        assert self.runs(pred, target, weight=torch.ones(4, requires_grad=True)) == "definition"
        assert self.runs(pred.to("meta"), target.to("meta")) == "kernel"
        CALLS.clear()
        torch.func.grad(lambda x: LabelledLoss()(x, target))(pred.detach())
        assert CALLS == ["definition"]
        CALLS.clear()
        torch.export.export(LabelledLoss(), (pred.detach(), target), strict=False)
        assert set(CALLS) == {"definition"}

    def test_the_kernel_is_what_is_compiled(self):
        """On every version of torch: a definition gives the same numbers, slower, and no other test would see it."""
        called = []

        def backend(graph, inputs):
            called.extend(node.target for node in graph.graph.nodes)
            return graph.forward

        compiled = torch.compile(LabelledLoss(), fullgraph=True, backend=backend)
        compiled(torch.randn(4, 3), torch.tensor([0, 1, 2, 0]))
        assert "gather" in called
        assert F.cross_entropy not in called

    def test_a_dispatch_mode_changes_nothing(self):
        with PeakMemory():
            assert self.runs(torch.randn(4, 3), torch.tensor([0, 1, 2, 0])) == "kernel"

    def test_without_a_gradient_none_is_computed(self):
        asked = []

        @definition(layout="elements")
        def doubled(pred, target):
            return 2 * pred

        @kernel(doubled)
        def doubled_kernel(x, target, *, needs_grad):
            asked.append(needs_grad)
            return 2 * x, torch.full_like(x, 2.0) if needs_grad else None

        x = torch.ones(3, requires_grad=True)
        doubled(x.detach(), x.detach())
        with torch.no_grad():
            doubled(x, x.detach())
        doubled(x, x.detach())
        assert asked == [False, False, True]

    def test_the_last_kernel_that_fits_is_chosen(self):
        @definition(layout="elements")
        def doubled(pred, target):
            return 2 * pred

        def fitting(name, **options):
            @kernel(doubled, **options)
            def implementation(x, target, *, needs_grad):
                return 2 * x, None

            implementation.__qualname__ = name

        fitting("first")
        fitting("only for many", supports=lambda pred, target: pred.numel() > 5)
        fitting("for meta", device="meta")
        few, many = torch.zeros(2), torch.zeros(9)
        assert explain(doubled, few, few).endswith(".first")
        assert explain(doubled, many, many).endswith(".only for many")
        assert explain(doubled, many.to("meta"), many.to("meta")).endswith(".for meta")

    def test_explain(self):
        _, pred, target, _ = inputs("overlap")
        assert explain(OverlapLoss(), pred, target).splitlines() == [
            "overlap: definition, as it has no kernel",
            f"class_sums: {__name__}.ClassSums",
        ]
        assert explain(F.mse_loss, pred, target) == "no definition of losses_core.kernels is reached"


def test_functions_take_what_their_signature_says():
    pred, target = torch.zeros(2, 3), torch.tensor([0, -100])
    value, normalizer, _ = labelled(pred, target=target)
    assert normalizer.tolist() == [True, False]
    torch.testing.assert_close(value, labelled(target=target, pred=pred, ignore_index=-100).value)
    for wrong in ({"ignore": 1}, {"target": target}):
        with pytest.raises(TypeError):
            labelled(pred, target, **wrong)
    with pytest.raises(TypeError):
        labelled(pred)
    with pytest.raises(TypeError, match="not declared"):
        definition_of(F.mse_loss)


def test_errors_name_the_loss_or_the_function():
    for call in (SquaredLoss(), LabelledLoss()):
        target = torch.zeros(2, dtype=torch.long) if call.class_axis else torch.zeros(2, 3)
        with pytest.raises(InputError, match=type(call).__name__ + ": expected weight"):
            call(torch.zeros(2, 3), target, torch.ones(5))


def test_a_learnable_loss_weight_gets_its_gradient():
    loss = SquaredLoss()
    loss.loss_weight = torch.nn.Parameter(torch.tensor(2.0))
    loss(torch.tensor([3.0], requires_grad=True), torch.tensor([0.0])).backward()
    assert loss.loss_weight.grad == 9


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
@pytest.mark.parametrize("name", NAMES)
def test_compiles_with_and_without_a_gradient(name):
    torch._dynamo.reset()
    loss, pred, target, keywords = inputs(name)
    expected = value_and_grad(loss, pred, target, **keywords)
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager", dynamic=True)
    torch.testing.assert_close(value_and_grad(compiled, pred, target, **keywords), expected)
    with torch.no_grad():
        torch.testing.assert_close(compiled(pred, target, **keywords), loss(pred, target, **keywords))


def test_a_gradient_without_a_bound_is_narrowed_in_its_own_memory(monkeypatch):
    """fp16 without a bound: the gradient is kept in float32, 2 × pred, and the result takes no memory beside it."""
    pred, target = torch.randn(50, 40, dtype=torch.float16), torch.randn(50, 40)
    for layout in (pred, pred.t().contiguous().t()):
        for block in (64, 1 << 16):
            monkeypatch.setattr(_blocks, "CPU_BLOCK", block)
            leaf, full = layout.detach().requires_grad_(), layout.float().detach().requires_grad_()
            (SquaredLoss()(leaf, target) * 3).backward()
            (SquaredLoss()(full, target) * 3).backward()
            torch.testing.assert_close(leaf.grad, full.grad.half())
    pred = torch.empty(1 << 27, dtype=torch.float16, device="meta", requires_grad=True)
    target = torch.empty_like(pred, requires_grad=False)
    with PeakMemory() as memory:
        SquaredLoss()(pred, target).backward()
    assert memory.peak <= 2.5 * pred.numel() * 2


@pytest.mark.parametrize(
    ("device", "fits"), [(None, {"cpu", "meta"}), ("cpu", {"cpu"}), ("accelerator", {"meta"}), ("cuda", set())]
)
def test_a_kernel_is_for_its_device(device: str | None, fits: set[str]) -> None:
    made = Kernel(lambda: None, device=device)
    assert {name for name in ("cpu", "meta") if made.fits(torch.empty(1, device=name))} == fits


def test_a_kernel_may_be_for_eager_code_or_a_compiler_alone() -> None:
    def which(x: torch.Tensor) -> list[bool]:
        return [Kernel(len, compiled=compiled).fits(x) for compiled in (None, False, True)]

    assert which(torch.ones(1)) == [True, True, False]
    assert torch.compile(which, backend="eager")(torch.ones(1)) == [True, False, True]
