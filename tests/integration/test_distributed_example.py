"""The torchrun example: with `sync_dist` the gradient of two processes is that of one, without it is not."""

import re
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "docs" / "examples" / "distributed.py"


def test_gradient_of_two_processes_is_that_of_one() -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(SCRIPT)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = r"sync_dist=(\w+) +value ([\d.]+) +relative error of the gradient (\S+)"
    found = {sync: (float(value), float(error)) for sync, value, error in re.findall(lines, done.stdout)}
    whole = float(re.search(r"one process +value ([\d.]+)", done.stdout)[1])
    assert abs(found["True"][0] - whole) < 1e-5
    assert found["True"][1] < 1e-5
    assert found["False"][1] > 0.1
    accuracy = float(re.search(r"accuracy on unseen digits ([\d.]+)%", done.stdout)[1])
    assert accuracy > 90
