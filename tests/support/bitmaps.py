"""Uncompressed bitmaps as arrays, without a package for images."""

import struct
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


def read_bitmap(path: Path, height: int, width: int, channels: int) -> Array:
    """uint8 [1, height, width, channels], each pixel the nearest of the file; RGB, or grey for 1 channel."""
    data = path.read_bytes()
    start, header, columns, rows, _, bits = struct.unpack_from("<10xIIiiHH", data)
    stride = -(-columns * bits // 32) * 4
    lines = np.frombuffer(data, np.uint8, stride * abs(rows), start).reshape(abs(rows), stride)
    if rows > 0:  # stored from the bottom up
        lines = lines[::-1]
    if bits == 24:
        pixels = lines[:, : columns * 3].reshape(-1, columns, 3)
    else:
        assert bits == 8
        table = np.frombuffer(data, np.uint8, start - 14 - header, 14 + header).reshape(-1, 4)
        pixels = table[lines[:, :columns], :3]
    ys = np.arange(height) * len(pixels) // height
    xs = np.arange(width) * columns // width
    image = pixels[ys][:, xs, ::-1]
    if channels == 1:
        image = image.mean(axis=2, keepdims=True).astype(np.uint8)
    return np.ascontiguousarray(image[None])
