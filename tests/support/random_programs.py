"""Any number of programs at random, all of which pass the verifier."""

import math
from collections.abc import Callable
from typing import Final

import numpy as np

from furiosa.common.tensor import DType
from furiosa.enf import Opcode, Program, Space
from furiosa.enf.onnxgraph import GraphBuilder
from furiosa.enf.table_rules import RANGES
from support import (
    random_elementwise,
    random_movement,
    random_reduction,
    random_windows,
)
from support.random_values import ACTIVATIONS, Random, Value


def random_program(rng: np.random.Generator) -> Program:
    """A program of every instruction in random order, geometry and arithmetic; some host sections."""
    r = Random(rng)
    _start_with_image(r)
    for _ in range(int(rng.integers(2))):
        _start(r)
    random_windows.convolution(r)
    for _ in range(r.upto(7)):
        r.pick(*_MAKERS)(r)
    for value in [v for v in r.values if v.buffer not in r.read]:
        _end(r, value)
    return r.draft.finish()


def _start_with_image(r: Random) -> None:
    shape = (r.draft.batch, r.pick(1, 3, 4, 8, 16, 32), r.upto(13), r.upto(13))
    if r.pick(True, False):
        x = Value(r.draft.input(DType.FLOAT32, shape), DType.FLOAT32, shape)
        random_elementwise.quantize(r, x)
    else:
        _input(r, r.pick(*ACTIVATIONS), shape)


def _start(r: Random) -> None:
    sizes = [r.upto(7) for _ in range(r.pick(0, 1, 2, 3, 4))]
    _input(r, r.pick(*ACTIVATIONS, *DType), (r.draft.batch, *sizes))


def _input(r: Random, dtype: DType, shape: tuple[int, ...]) -> None:
    low, high = RANGES.get(dtype, (0, 0))
    zero = int(r.rng.integers(low, high + 1))
    r.values.append(Value(r.draft.input(dtype, shape), dtype, shape, zero))


def _on_host(r: Random) -> None:
    """The host turns an image, or negates real numbers."""
    x = r.image()
    graph = GraphBuilder("host")
    if r.pick(True, False):
        n, c, h, w = x.shape
        out = r.result((n, c, w, h), x.dtype)
        graph.input("in", x.dtype, x.shape)
        graph.node("Transpose", ["in"], ["out"], perm=[0, 1, 3, 2])
        graph.output("out", x.dtype, out.shape)
        r.draft.host(graph.build(), (r.used(x).buffer,), (out.buffer,))
        return
    real = random_elementwise.dequantize(r, x)
    negated = r.result(x.shape, DType.FLOAT32)
    graph.input("in", DType.FLOAT32, x.shape)
    graph.node("Neg", ["in"], ["out"])
    graph.output("out", DType.FLOAT32, x.shape)
    r.draft.host(graph.build(), (r.used(real).buffer,), (negated.buffer,))
    random_elementwise.quantize(r, negated)


def _end(r: Random, value: Value) -> None:
    """An output is no input, and has a multiple of the batch as its first size."""
    if value.dtype in ACTIVATIONS and r.pick(True, False):
        value = random_elementwise.dequantize(r, value)
    inputs = {port.buffer for port in r.draft.inputs}
    if value.buffer in inputs or (value.shape or (1,))[0] % r.draft.batch:
        size = math.prod(value.shape)
        wide = r.draft.buffer(value.dtype, (1, size), Space.DRAM)
        out = r.draft.buffer(value.dtype, (r.draft.batch, size), Space.DRAM)
        r.draft.emit(Opcode.RESHAPE, wide, value.buffer)
        r.draft.emit(Opcode.EXPAND, out, wide)
        r.draft.output(out)
    else:
        r.draft.output(value.buffer)


_MAKERS: Final[tuple[Callable[[Random], None], ...]] = (
    random_windows.convolution,
    random_windows.convolution,
    random_windows.depthwise,
    random_windows.max_pool,
    random_windows.average_pool,
    random_windows.resize_linear,
    random_elementwise.add,
    random_elementwise.multiply,
    random_elementwise.table,
    random_elementwise.requantise,
    random_movement.load,
    random_movement.reshape,
    random_movement.concat,
    random_movement.transpose,
    random_movement.slice_,
    random_movement.pad,
    random_movement.expand,
    random_movement.gather,
    random_reduction.over_axes,
    random_reduction.softmax,
    random_reduction.matmul,
    _on_host,
)
