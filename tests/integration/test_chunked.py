"""`ChunkedLoss` with the losses of the packages: equal to the loss of all logits, in a bounded memory."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from losses_core import LOSSES, ChunkedLoss, ConfigError, InputError, _chunks, build_loss, use_definitions
from losses_core._memory import PeakMemory
from losses_testkit.case import Inputs
from losses_testkit.distribution import close, shards
from losses_testkit.ranks import pool
from losses_testkit.runs import prepared

CLASSES, WIDTH = 11, 6

ROWS = {
    "CrossEntropyLoss": {"class_weight": [1.0 + k / 10 for k in range(CLASSES)], "label_smoothing": 0.1},
    "FocalLoss": {},
    "LabelSmoothLoss": {},
    "PolyCrossEntropyLoss": {},
    "BinaryKDLoss": {},
    "DKDLoss": {},
    "GeneralizedJSDLoss": {},
    "KnowledgeDistillationLoss": {},
}
TEACHERS = {"BinaryKDLoss", "DKDLoss", "GeneralizedJSDLoss", "KnowledgeDistillationLoss"}


class Upsampled(nn.Module):
    """A dense head: 1×1 convolution, then bilinear upsampling."""

    def __init__(self, scale: int = 4) -> None:
        super().__init__()
        self.convolution, self.scale = nn.Conv2d(WIDTH, CLASSES, 1), scale

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return nn.functional.interpolate(self.convolution(features), scale_factor=self.scale, mode="bilinear")


def token_inputs(dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, torch.Tensor, nn.Linear]:
    torch.manual_seed(0)
    features = torch.randn(3, 7, WIDTH, dtype=dtype, requires_grad=True)
    labels = torch.randint(0, CLASSES, (3, 7))
    return features, labels, nn.Linear(WIDTH, CLASSES).to(dtype)


def gradients(value: torch.Tensor, *wanted: torch.Tensor) -> list[torch.Tensor]:
    return list(torch.autograd.grad(value, wanted))


def same(actual: list[torch.Tensor], expected: list[torch.Tensor], tolerance: float = 1e-12) -> None:
    for one, other in zip(actual, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize("as_module", [False, True])
def test_rows_equal_the_whole(name: str, as_module: bool) -> None:
    loss = build_loss({"type": name, **ROWS[name]})
    features, target, linear = token_inputs()
    head = nn.Sequential(linear) if as_module else linear  # as a sequence it is no linear head, but any module
    teacher = nn.Linear(WIDTH, CLASSES).double() if name in TEACHERS else None
    keywords = {}
    if name == "DKDLoss":
        keywords = {"labels": target.flatten()}
    if teacher is None and "ignore_index" in vars(loss):
        target[0, :3] = loss.ignore_index
    truth = target.flatten()
    if teacher is not None:
        target = torch.randn(3, 7, WIDTH).double()
        truth = teacher(target).detach().flatten(0, 1)
    expected = loss(head(features).flatten(0, 1), truth, **keywords)
    chunked = {name: tensor.view(3, 7) for name, tensor in keywords.items()}
    value = ChunkedLoss(loss, 4)(features, target, head, teacher_head=teacher, **chunked)
    same([value], [expected])
    same(gradients(value, features, *head.parameters()), gradients(expected, features, *head.parameters()))


@pytest.mark.parametrize("name", ["CrossEntropyLoss", "DiceLoss", "FocalLoss", "BoundaryLoss"])
def test_dense_heads_over_the_batch_equal_the_whole(name: str) -> None:
    torch.manual_seed(0)
    loss = build_loss({"type": name, "ignore_index": 255})
    features, head = torch.randn(5, WIDTH, 4, 3, dtype=torch.float64, requires_grad=True), Upsampled().double()
    target = torch.randint(0, CLASSES, (5, 16, 12))
    target[1, :5] = 255
    wanted = [features, *head.parameters()]
    expected, value = loss(head(features), target), ChunkedLoss(loss, 2, "batch")(features, target, head)
    same([value, *gradients(value, *wanted)], [expected, *gradients(expected, *wanted)])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_other_precisions_equal_the_whole_to_rounding(dtype: torch.dtype) -> None:
    features, target, head = token_inputs(dtype)
    loss = build_loss("CrossEntropyLoss")
    expected, value = loss(head(features).flatten(0, 1), target.flatten()), ChunkedLoss(loss, 4)(features, target, head)
    tolerance = {torch.float32: 1e-6, torch.float16: 2e-3, torch.bfloat16: 2e-2}[dtype]
    assert value.dtype == torch.float32
    actual = gradients(value, features, *head.parameters())
    assert [gradient.dtype for gradient in actual] == [dtype] * 3
    same([value, *actual], [expected, *gradients(expected, features, *head.parameters())], tolerance)


@pytest.mark.parametrize("as_module", [False, True])
def test_gradients_added_up_in_pieces_are_the_same(as_module: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    features, target, linear = token_inputs(torch.bfloat16)
    head = nn.Sequential(linear) if as_module else linear
    chunked, wanted = ChunkedLoss(build_loss("CrossEntropyLoss"), 4), [features, *head.parameters()]
    expected = gradients(chunked(features, target, head), *wanted)
    monkeypatch.setattr(_chunks, "ACCUMULATED_AT_ONCE", 2 * WIDTH + 1)  # two rows of the weight; the last piece has one
    same(gradients(chunked(features, target, head), *wanted), expected, 0.0)


def test_nothing_costs_nothing() -> None:
    _, target, head = token_inputs()
    features = torch.zeros(0, 7, WIDTH, dtype=torch.float64, requires_grad=True)
    value = ChunkedLoss(build_loss("CrossEntropyLoss"), 4)(features, target[:0], head)
    value.backward()
    assert value == 0
    assert not head.weight.grad.any()


@pytest.mark.parametrize("over", ["rows", "batch"])
def test_a_word_for_coupled_that_is_unknown_is_refused(over: str) -> None:
    loss = build_loss("CrossEntropyLoss")
    loss.coupled = "sample"
    with pytest.raises(ConfigError, match="couples the rows"):
        ChunkedLoss(loss, over=over)


@pytest.mark.parametrize("as_module", [False, True])
def test_under_autocast_the_head_is_cast_and_the_loss_is_not(as_module: bool) -> None:
    features, target, head = token_inputs(torch.float32)
    head = nn.Sequential(head) if as_module else head
    loss = build_loss("CrossEntropyLoss")
    with torch.autocast("cpu", torch.bfloat16):
        expected = loss(head(features).flatten(0, 1), target.flatten())
        value = ChunkedLoss(loss, 4)(features, target, head)
    assert value.dtype == torch.float32
    wanted = [features, *head.parameters()]
    same([value], [expected], 1e-6)
    same(gradients(value, *wanted), gradients(expected, *wanted), 2e-3)


@pytest.mark.parametrize("frozen", ["head", "features", "weight"])
def test_what_is_frozen_gets_no_gradient(frozen: str) -> None:
    features, target, head = token_inputs()
    wanted = [features, head.weight, head.bias]
    if frozen == "features":
        features.requires_grad_(False)
    for parameter in head.parameters() if frozen == "head" else [head.weight] if frozen == "weight" else []:
        parameter.requires_grad_(False)
    loss = build_loss("CrossEntropyLoss")
    wanted = [tensor for tensor in wanted if tensor.requires_grad]
    value, expected = ChunkedLoss(loss, 4)(features, target, head), loss(head(features).flatten(0, 1), target.flatten())
    same(gradients(value, *wanted), gradients(expected, *wanted))
    with torch.no_grad():
        assert not ChunkedLoss(loss, 4)(features, target, head).requires_grad


def test_micro_batches_with_one_factor_are_the_whole_batch() -> None:
    features, target, head = token_inputs()
    target[0, :5] = -100
    chunked = ChunkedLoss(build_loss("CrossEntropyLoss"), 4)
    total = (target != -100).sum()
    for part, labels in zip(features.split(1), target.split(1), strict=True):
        chunked(part, labels, head, avg_factor=total).backward()
    accumulated = [features.grad, head.weight.grad, head.bias.grad]
    same(accumulated, gradients(chunked(features, target, head), features, head.weight, head.bias))


def test_ignored_rows_may_hold_anything() -> None:
    features, target, head = token_inputs()
    chunked, wanted = ChunkedLoss(build_loss("CrossEntropyLoss"), 4), [features, head.weight, head.bias]
    target[1] = -100
    clean = chunked(features, target, head)
    spoiled = features.detach().clone()
    spoiled[1] = torch.nan
    value = chunked(spoiled.requires_grad_(), target, head)
    same([value], [clean])
    same(gradients(value, head.bias), gradients(clean, wanted[2]))


@pytest.mark.parametrize("as_module", [False, True])
def test_a_kept_graph_gives_the_same_gradient_again(as_module: bool) -> None:
    features, target, head = token_inputs()
    head = nn.Sequential(head) if as_module else head
    value, wanted = ChunkedLoss(build_loss("FocalLoss"), 4)(features, target, head), [features, *head.parameters()]
    first = list(torch.autograd.grad(3 * value, wanted, retain_graph=True))
    for gradient in first:
        gradient.div_(3)
    same(first, gradients(value, *wanted))


def test_a_second_derivative_is_refused() -> None:
    features, target, head = token_inputs()
    value = ChunkedLoss(build_loss("CrossEntropyLoss"), 4)(features, target, head)
    with pytest.raises(InputError, match="cannot be differentiated again"):
        torch.autograd.grad(value, features, create_graph=True)


def test_hooks_of_a_linear_head_run() -> None:
    features, target, head = token_inputs()
    seen = []
    head.register_forward_hook(lambda module, args, output: seen.append(len(output)))
    ChunkedLoss(build_loss("CrossEntropyLoss"), 8)(features, target, head).backward()
    assert seen == [8, 8, 5]


def test_a_learned_weight_and_what_a_loss_learns_get_their_gradients() -> None:
    features, target, head = token_inputs()
    loss = build_loss("CrossEntropyLoss")
    loss.loss_weight = nn.Parameter(torch.tensor(2.0, dtype=torch.float64))
    value = ChunkedLoss(loss, 4)(features, target, head)
    expected = loss(head(features).flatten(0, 1), target.flatten())
    same(gradients(value, features, loss.loss_weight), gradients(expected, features, loss.loss_weight))


def test_definitions_give_the_same() -> None:
    features, target, head = token_inputs()
    chunked = ChunkedLoss(build_loss("CrossEntropyLoss"), 4)
    value = chunked(features, target, head)
    with use_definitions():
        expected = chunked(features, target, head)
        same([value, *gradients(value, features)], [expected, *gradients(expected, features)])


# torch's own, of any tensor that its compiler takes over a break
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
def test_compiles_with_one_break_for_all_batch_sizes() -> None:
    from torch._dynamo.utils import counters

    torch._dynamo.reset()
    counters.clear()
    head, chunked = token_inputs()[2], ChunkedLoss(build_loss("CrossEntropyLoss"), 4)

    def step(features: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return 3 * chunked(features.relu(), target, head)

    compiled = torch.compile(step, backend="aot_eager", dynamic=True)
    for number in (3, 5, 6):
        features = torch.randn(number, 7, WIDTH, dtype=torch.float64, requires_grad=True)
        target = torch.randint(0, CLASSES, (number, 7))
        value, expected = compiled(features, target), step(features, target)
        same([value, *gradients(value, features)], [expected, *gradients(expected, features)])
    assert counters["stats"]["unique_graphs"] == 2  # before and after the loss


@pytest.mark.parametrize("sizes", [(3, 2), (2, 0, 3)], ids=str)
def test_over_ranks_with_one_collective(sizes: tuple[int, ...]) -> None:
    features, _, head = token_inputs()
    inputs = Inputs(torch.cat([features, features[:2] * 2]).detach(), torch.randint(0, CLASSES, (5, 7)))
    inputs.target[0, :5] = -100
    pair = (head.weight.detach(), head.bias.detach())
    whole = prepared(inputs)
    value = ChunkedLoss(build_loss("CrossEntropyLoss"), 4)(whole.pred, whole.target, pair)
    (gradient,) = gradients(value, whole.pred)
    config = ChunkedLoss(build_loss({"type": "CrossEntropyLoss", "sync_dist": True}), 4).to_config()
    jobs = [
        {"config": config, "state": {}, "inputs": shard, "keywords": {"head": pair}, "compiled": False}
        for shard in shards(inputs, sizes)
    ]
    results = pool().run("losses_testkit.jobs:run_loss", jobs)
    for result in results:
        close(result["value"], value.detach())
        assert result["forward"] == [("all_reduce", 16)]
        assert result["backward"] == []
    close(torch.cat([result["pred"][0] for result in results]) / len(sizes), gradient)


LIMITS = {"CrossEntropyLoss": 5, "KnowledgeDistillationLoss": 9, "GeneralizedJSDLoss": 9}


@pytest.mark.parametrize("name", LIMITS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_peak_memory(name: str, dtype: torch.dtype) -> None:
    rows, classes, width, chunk = 4096, 32000, 512, 256
    loss, two_heads = build_loss(name).to("meta"), name in TEACHERS
    features = torch.empty(rows, width, dtype=dtype, device="meta", requires_grad=True)
    head, teacher = (nn.Linear(width, classes, bias=False, dtype=dtype, device="meta") for _ in range(2))
    target = torch.empty(rows, dtype=torch.int64, device="meta")
    if two_heads:
        target = torch.empty(rows, width, dtype=dtype, device="meta")
    chunked = ChunkedLoss(loss, chunk)
    with PeakMemory() as memory:
        chunked(features, target, head, teacher_head=teacher if two_heads else None).backward()
    kept = (features.numel() + head.weight.numel()) * features.element_size()
    unit = chunk * classes * 4
    assert memory.peak <= 2 * kept + LIMITS[name] * unit, f"{(memory.peak - 2 * kept) / unit:.2f} × the chunk"


def test_peak_memory_of_a_dense_head() -> None:
    features = torch.empty(16, WIDTH, 32, 32, dtype=torch.bfloat16, device="meta", requires_grad=True)
    head, target = Upsampled().to("meta", torch.bfloat16), torch.empty(16, 128, 128, dtype=torch.int64, device="meta")
    logits = 16 * CLASSES * 128 * 128 * 2
    loss = build_loss("CrossEntropyLoss").to("meta")
    with PeakMemory() as whole:
        loss(head(features), target).backward()
    with PeakMemory() as memory:
        ChunkedLoss(loss, 1, "batch")(features, target, head).backward()
    assert memory.peak < whole.peak / 4
    assert memory.peak < logits / 2


@pytest.mark.parametrize("name", [name for name in LOSSES if isinstance(LOSSES[name].coupled, str)])
def test_a_loss_that_couples_rows_is_refused_with_the_way_out(name: str) -> None:
    needed = {"SeesawLoss": {"num_classes": 3}, "MGDLoss": {"student_channels": 4, "teacher_channels": 4}}
    loss = LOSSES[name](**needed.get(name, {}))
    with pytest.raises(ConfigError, match=r"couples the rows of (a sample\. Use over='batch'|the batch\. Call it on)"):
        ChunkedLoss(loss)


HEAD = nn.Linear(WIDTH, CLASSES)


@pytest.mark.parametrize(
    ("arguments", "keywords", "text"),
    [
        ((None, None, "linear"), {}, r"head: expected a module, or a pair"),
        ((None, None, (HEAD.weight, HEAD.weight)), {}, r"head: expected a weight \(C,D\) and a bias"),
        ((None, None, nn.Sequential(HEAD, nn.BatchNorm1d(CLASSES))), {}, r"head: 1 is a BatchNorm1d in training mode"),
        ((None, None, HEAD), {"reduction_override": "none"}, r"reduction: expected one of 'mean', 'sum'"),
        ((None, None, HEAD), {"weight": torch.ones(3, 7, requires_grad=True)}, r"weight requires a gradient"),
        ((torch.zeros(3, 7, dtype=torch.int64), None, HEAD), {}, r"features: expected a floating-point tensor"),
        ((torch.zeros(3), None, HEAD), {}, r"features: expected \(…,D\) over rows"),
        ((None, torch.full((3, 7), 99), HEAD), {}, r"ChunkedLoss: CrossEntropyLoss: .*99"),
        (
            (None, torch.zeros(4, dtype=torch.int64), HEAD),
            {},
            r"target: expected the leading axes of the features, \(3, 7",
        ),
        ((None, None, HEAD), {"weight": torch.ones(4)}, r"weight: expected the leading axes .* got \(4,\)"),
    ],
)
def test_errors_say_what_is_wrong(arguments, keywords, text) -> None:
    features, target, _ = token_inputs(torch.float32)
    given, labels, head = arguments
    chunked = ChunkedLoss(build_loss("CrossEntropyLoss"), 4)
    with pytest.raises(InputError, match=text):
        chunked(features if given is None else given, target if labels is None else labels, head, **keywords)


def test_faults_of_a_config_have_paths() -> None:
    for config, text in (
        ({"type": "ChunkedLoss"}, r"loss: ChunkedLoss needs the parameter 'loss'"),
        ({"type": "ChunkedLoss", "loss": "CrossEntropyLoss", "chunksize": 1}, r"loss\.chunksize: .*'chunk_size'"),
        ({"type": "ChunkedLoss", "loss": {"type": "CrossEntropyLos"}}, r"loss\.loss\.type: .*CrossEntropyLoss"),
        ({"type": "ChunkedLoss", "loss": "CrossEntropyLoss", "chunk_size": 0}, r"chunk_size: expected an integer >= 1"),
        ({"type": "ChunkedLoss", "loss": "LovaszLoss"}, r"LovaszLoss cannot be computed chunk by chunk"),
        ({"type": "ChunkedLoss", "loss": ["CrossEntropyLoss", "DiceLoss"]}, r"expected one loss or its config"),
        ([{"type": "ChunkedLoss", "loss": "CrossEntropyLoss"}], r"loss\[0\]: expected a loss"),
    ):
        with pytest.raises(ConfigError, match=text):
            build_loss(config)


def test_a_config_builds_it_again() -> None:
    config = {"type": "ChunkedLoss", "chunk_size": 7, "over": "batch", "loss": {"type": "DiceLoss", "loss_weight": 2}}
    criterion = build_loss(config)
    again = copy.deepcopy(build_loss(criterion.to_config()))
    assert (criterion.label, criterion.loss_name, criterion.loss_weight) == ("dice", "loss_dice", 2)
    criterion.loss_weight = 3.0
    assert criterion.loss.loss_weight == 3.0
    assert repr(again) == repr(build_loss(config))
