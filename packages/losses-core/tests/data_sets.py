"""Small data sets in the formats that `losses weights` reads."""

import json
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np


def write_png(path: Path, labels: Any, *, depth: int = 8, kind: int = 0) -> Path:
    """A PNG file of samples as they are: kind 0 is gray, 2 RGB, 3 a palette, 4 gray with alpha, 6 RGBA."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    channels = {2: 3, 4: 2, 6: 4}.get(kind, 1)
    samples = np.repeat(np.asarray(labels)[..., None], channels, -1)
    height, width = samples.shape[:2]
    samples = samples.reshape(height, -1)
    if depth == 16:
        rows = [row.astype(">u2").tobytes() for row in samples]
    else:
        bits = np.unpackbits(samples.astype(np.uint8)[..., None], axis=-1)[..., 8 - depth :]
        rows = [np.packbits(row).tobytes() for row in bits.reshape(height, -1)]
    content = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0))
    if kind == 3:
        content += chunk(b"PLTE", bytes(i % 256 for i in range(3 * 2**depth)))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(
        content + chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row for row in rows))) + chunk(b"IEND", b"")
    )
    return path


def write_csv(path: Path, labels: Any, column: str = "label") -> Path:
    """A CSV file with a column of labels beside another."""
    path.write_text("".join([f"file,{column}\n", *(f"{index}.jpg,{label}\n" for index, label in enumerate(labels))]))
    return path


def write_coco(path: Path, annotations: list[tuple[Any, int]], names: dict[int, str]) -> Path:
    """A COCO file with annotations (image, category id), each with a polygon."""
    content = {
        "info": {"year": 2026},
        "images": [{"id": image, "file_name": f"{image}.jpg"} for image, _ in annotations],
        "categories": [{"id": number, "name": name, "supercategory": "thing"} for number, name in names.items()],
        "annotations": [
            {"id": index, "image_id": image, "category_id": category, "segmentation": [[0.0, 1.0, 2.0, 3.0]]}
            for index, (image, category) in enumerate(annotations)
        ],
    }
    path.write_text(json.dumps(content))
    return path
