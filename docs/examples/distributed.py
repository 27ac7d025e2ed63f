"""Train on the digits over several processes: `torchrun --standalone --nproc-per-node 2 distributed.py`.

Most labels of the last rank are unknown, as in semi-supervised training: the ranks divide by unequal counts, and what
DistributedDataParallel averages is not the gradient of the batch. First the error of that gradient is printed, with
`sync_dist` and without; then a model is trained with it. Gloo on CPUs; NCCL where every rank has a GPU.
"""

import os
from pathlib import Path

import torch
import torch.distributed as dist
from digits.data import load
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from losses_core import CombinedLoss, build_loss, load_config

CONFIG = Path(__file__).with_suffix(".yaml")
UNKNOWN = -1
STEPS = 200


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        *(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(128, 10)),
    )


def gradient(model: nn.Module, criterion: CombinedLoss, images: Tensor, labels: Tensor) -> tuple[float, Tensor]:
    """Value of the loss, and the gradient of all parameters as one vector."""
    model.zero_grad()
    total = criterion(model(images), labels)
    total.backward()
    return float(total.detach()), torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


def compare(images: Tensor, labels: Tensor, device: torch.device, say: bool) -> None:
    """One batch: every rank its rows, and one process all of them."""
    rank, ranks = dist.get_rank(), dist.get_world_size()
    criterion = build_loss(load_config(CONFIG))
    for loss in criterion.values():
        loss.sync_dist = False
    value, wanted = gradient(network().to(device), criterion, images, labels)
    if say:
        print(f"{'one process':<20} value {value:.6f}", flush=True)
    parallel = DistributedDataParallel(network().to(device))
    for sync in (False, True):
        for loss in criterion.values():
            loss.sync_dist = sync
        value, actual = gradient(parallel, criterion, images.chunk(ranks)[rank], labels.chunk(ranks)[rank])
        error = float((actual - wanted).norm() / wanted.norm())
        if say:
            print(
                f"{f'sync_dist={sync}':<20} value {value:.6f}   relative error of the gradient {error:.1e}", flush=True
            )


def train(images: Tensor, labels: Tensor, device: torch.device, say: bool) -> nn.Module:
    """Every rank trains on its own rows."""
    rank, ranks = dist.get_rank(), dist.get_world_size()
    images, labels = images.chunk(ranks)[rank], labels.chunk(ranks)[rank]
    model = DistributedDataParallel(network().to(device))
    criterion = build_loss(load_config(CONFIG))
    optimizer = torch.optim.AdamW(model.parameters(), 5e-3)
    generator = torch.Generator().manual_seed(rank)
    for step in range(STEPS):
        batch = torch.randint(len(images), (64,), generator=generator).to(device)
        terms = criterion.terms(model(images[batch]), labels[batch])
        optimizer.zero_grad()
        terms.total.backward()
        optimizer.step()
        if say and step % (STEPS // 4) == 0:
            print("   ".join([f"step {step:>3}", *(f"{k} {v:.4f}" for k, v in terms.log_dict().items())]), flush=True)
    return model


def main() -> None:
    torch.set_num_threads(1)
    gpus = torch.cuda.is_available() and torch.cuda.device_count() >= int(os.environ["LOCAL_WORLD_SIZE"])
    dist.init_process_group("nccl" if gpus else "gloo")
    device = torch.device("cuda", int(os.environ["LOCAL_RANK"])) if gpus else torch.device("cpu")
    say = dist.get_rank() == 0

    (images, labels), (test_images, test_labels) = load()
    images, labels = images.to(device), labels.to(device)
    last = labels.chunk(dist.get_world_size())[-1]  # a view
    last[torch.arange(len(last), device=device) % 10 != 0] = UNKNOWN
    rows = torch.linspace(0, len(labels) - 1, 64 * dist.get_world_size()).long()
    compare(images[rows], labels[rows], device, say)
    model = train(images, labels, device, say)
    if say:
        with torch.no_grad():
            guess = model.module(test_images.to(device)).argmax(1).cpu()
        print(f"accuracy on unseen digits {(guess == test_labels).float().mean():.1%}")
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
