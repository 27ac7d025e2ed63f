"""Digits pasted onto larger canvases at random places and scales, with their boxes and their pixels."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

SIZE = 48
SIDES = (14, 26)
"""Shortest and longest side of a pasted image, in pixels of the canvas."""
INK = 0.35
"""A pixel of the canvas belongs to a digit from this grey value on."""
MOST = 3
"""Digits on one canvas."""


@dataclass
class Canvases:
    """N canvases.

    Attributes:
        images: (N, 1, SIZE, SIZE) in [0, 1].
        boxes: (N, MOST, 4) corners (x1, y1, x2, y2) of the ink; zeros where there are fewer digits.
        labels: (N, MOST) the digit in each box, -1 where there is none.
        pixels: (N, SIZE, SIZE) 0 background, 1 + digit elsewhere.
    """

    images: Tensor
    boxes: Tensor
    labels: Tensor
    pixels: Tensor


def paste(digits: Tensor, labels: Tensor, count: int, seed: int, sides: tuple[int, int] = SIDES) -> Canvases:
    """Make ``count`` canvases of one to three digits that do not touch, drawn from (N, 1, 8, 8) images."""
    generator = torch.Generator().manual_seed(seed)

    def draw(low: int, high: int) -> int:
        return int(torch.randint(low, high, (), generator=generator))

    canvases = Canvases(
        torch.zeros(count, 1, SIZE, SIZE),
        torch.zeros(count, MOST, 4),
        torch.full((count, MOST), -1),
        torch.zeros(count, SIZE, SIZE, dtype=torch.long),
    )
    for image, boxes, classes, pixels in zip(
        canvases.images, canvases.boxes, canvases.labels, canvases.pixels, strict=True
    ):
        taken = torch.zeros(SIZE, SIZE, dtype=torch.bool)
        placed = 0
        for _ in range(draw(1, MOST + 1)):
            which, side = draw(0, len(digits)), draw(*sides)
            x, y = draw(0, SIZE - side + 1), draw(0, SIZE - side + 1)
            window = slice(y, y + side), slice(x, x + side)
            if taken[window].any():
                continue
            taken[window] = True
            scaled = F.interpolate(digits[which][None], size=(side, side), mode="bilinear", align_corners=False)[0, 0]
            image[0][window] = scaled
            ink = scaled >= INK
            pixels[window][ink] = 1 + labels[which]
            rows, columns = ink.any(1).nonzero(), ink.any(0).nonzero()
            corners = [x + columns[0], y + rows[0], x + columns[-1] + 1, y + rows[-1] + 1]
            boxes[placed] = torch.cat(corners)
            classes[placed] = labels[which]
            placed += 1
    return canvases
