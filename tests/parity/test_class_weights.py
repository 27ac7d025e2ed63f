"""Class weights from counts equal those of the libraries that compute them."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from bench import peers
from losses_core import get_class_weight

COUNTS = [900, 90, 30, 1, 250]


def theirs(**options: Any) -> torch.Tensor:
    """timm's weights, from a process of its own."""
    if not peers.is_installed("timm"):
        pytest.skip("timm is not installed")
    code = (
        "import json, sys; from bench import peers;"
        "compute = peers.load('timm.loss.class_weights:compute_class_weights');"
        "print(json.dumps(compute(**json.loads(sys.argv[1]))[1].tolist()))"
    )
    given = json.dumps({"pos_counts": COUNTS, "num_samples": sum(COUNTS), **options})
    env = os.environ | {"PYTHONPATH": str(Path(peers.__file__).parents[1])}
    done = subprocess.run([sys.executable, "-c", code, given], env=env, check=True, stdout=-1, timeout=120)
    return torch.tensor(json.loads(done.stdout))


def test_timm_inv_freq() -> None:
    for power, method in ((1.0, "inverse"), (0.5, "sqrt_inverse")):
        ours = get_class_weight(counts=COUNTS, method=method, normalize="mean")  # type: ignore[arg-type]
        torch.testing.assert_close(ours, theirs(method="inv_freq", power=power))


def test_timm_effective_num() -> None:
    for beta in (0.9, 0.999, 0.9999):
        ours = get_class_weight(counts=COUNTS, method="effective_num", beta=beta)
        torch.testing.assert_close(ours, theirs(method="effective_num", beta=beta), rtol=1e-5, atol=0)


def test_scikit_learn_balanced() -> None:
    utils = pytest.importorskip("sklearn.utils.class_weight")
    labels = torch.arange(len(COUNTS)).repeat_interleave(torch.tensor(COUNTS)).numpy()
    balanced = utils.compute_class_weight("balanced", classes=torch.arange(len(COUNTS)).numpy(), y=labels)
    torch.testing.assert_close(get_class_weight(counts=COUNTS), torch.tensor(balanced).float())
