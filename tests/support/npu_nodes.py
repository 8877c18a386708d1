"""Operations of the NPU, at least one of every opcode, with the values they read and make."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from furiosa.common.tensor import DType
from furiosa.compiler.ldfg.ir import NpuNode
from furiosa.compiler.value import Value
from furiosa.enf.isa import Opcode, Window

F = np.float32
FULL: dict[str, Any] = {"low": -128, "high": 127}


@dataclass(frozen=True)
class Sample:
    node: NpuNode
    sources: Sequence[Value]
    result: Value

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        return [source.shape for source in self.sources]


def sample(
    opcode: Opcode, sources: Sequence[tuple[int, ...]], result: tuple[int, ...], **fields: Any
) -> Sample:
    """int8 everywhere, but where the opcode says otherwise."""
    kinds = {Opcode.QUANTIZE: DType.FLOAT32}
    source = kinds.get(opcode, DType.INT8)
    out = DType.FLOAT32 if opcode is Opcode.DEQUANTIZE else DType.INT8
    values = [Value(f"x{n}", source, shape) for n, shape in enumerate(sources)]
    names = tuple(value.name for value in values)
    node = NpuNode(opcode.name.lower(), opcode, names, "y", ("source",), **fields)
    return Sample(node, values, Value("y", out, result))


def numbers(*values: int) -> Any:
    return np.array(values, np.int32)


def convolution(
    opcode: Opcode, source: tuple[int, ...], result: tuple[int, ...], window: Window
) -> Sample:
    shape = (result[1], source[1] // window.group, *window.kernel)
    weights = (np.arange(np.prod(shape)) % 7 - 3).astype(np.int8).reshape(shape)
    return sample(
        opcode,
        [source],
        result,
        weights=weights,
        bias=np.zeros(result[1], np.int32),
        multiplier=np.full(result[1], 0.1, F),
        window=window,
        **FULL,
    )


SLIDING = Window((3, 3), (2, 1), (1, 1, 0, 1), (1, 2))  # (9, 9) becomes (4, 7)
ONE = np.ones(1, F)
TWO = np.ones(2, F)
X = (2, 4, 9, 9)
SAMPLES = (
    convolution(Opcode.CONV2D, X, (2, 6, 4, 7), SLIDING),
    convolution(Opcode.CONV2D, X, (2, 6, 9, 9), Window(group=2)),
    convolution(
        Opcode.DEPTHWISE_CONV2D, X, (2, 8, 9, 9), Window((3, 3), (1, 1), (1,) * 4, group=4)
    ),
    sample(Opcode.ADD, [X, (1, 4, 1, 9)], X, multiplier=TWO, **FULL),
    sample(Opcode.MULTIPLY, [(2, 1, 1, 1), X], X, multiplier=TWO, **FULL),
    sample(Opcode.MAX_POOL2D, [X], (2, 4, 4, 7), window=SLIDING, **FULL),
    sample(
        Opcode.AVERAGE_POOL2D,
        [X],
        (2, 4, 4, 7),
        window=SLIDING,
        multiplier=np.full((4, 7), 0.1, F),
        **FULL,
    ),
    sample(Opcode.RESHAPE, [X], (2, 324)),
    sample(Opcode.RESHAPE, [X], (8, 81)),
    sample(Opcode.RESHAPE, [(1, 6, 4)], (1, 1, 8, 3)),
    sample(Opcode.QUANTIZE, [X], X, multiplier=ONE, **FULL),
    sample(Opcode.DEQUANTIZE, [X], X, multiplier=ONE),
    sample(Opcode.LOAD, [], (2, 4), weights=np.zeros((2, 4), np.int8)),
    sample(Opcode.TABLE, [X], X, weights=np.arange(-128, 128).astype(np.int8)),
    sample(Opcode.CONCAT, [X, (2, 3, 9, 9)], (2, 7, 9, 9), axis=1),
    sample(Opcode.CONCAT, [X, X], (2, 4, 18, 9), axis=2),
    sample(Opcode.TRANSPOSE, [X], (2, 9, 9, 4), parameters=numbers(0, 2, 3, 1)),
    sample(
        Opcode.SLICE,
        [X],
        (2, 2, 4, 3),
        parameters=np.array([[0, 1, 1, 0], [1, 2, 2, 4]], np.int32),
    ),
    sample(Opcode.PAD, [X], (2, 4, 12, 10), parameters=numbers(0, 0, 2, 1)),
    sample(Opcode.EXPAND, [(2, 1, 9, 1)], X),
    sample(Opcode.GATHER, [X], (2, 4, 5, 9), axis=2, parameters=numbers(8, 7, 7, 3, 0)),
    sample(
        Opcode.RESIZE_LINEAR,
        [X],
        (2, 4, 3, 4),
        parameters=numbers(0, 3, 6, 1, 4, 7, 0, 2, 4, 7, 1, 3, 5, 8),
        multiplier=np.array([0.5] * 7 + [1], F),
        **FULL,
    ),
    sample(
        Opcode.REDUCE_SUM,
        [X],
        (2, 4, 1, 1),
        parameters=numbers(2, 3),
        multiplier=np.full(1, 0.01, F),
        **FULL,
    ),
    sample(Opcode.REDUCE_L2, [X], (2, 4, 9, 1), parameters=numbers(3), multiplier=ONE / 8, **FULL),
    sample(
        Opcode.L2_NORMALIZE, [X], X, parameters=numbers(1), multiplier=np.full(1, 99, F), **FULL
    ),
    sample(
        Opcode.SOFTMAX,
        [X],
        X,
        axis=1,
        weights=np.rint(4000 * 0.98 ** np.arange(256)).astype(F),
        multiplier=ONE / 256,
        zero_out=-128,
        **FULL,
    ),
    sample(Opcode.MATMUL, [(2, 5, 4), (2, 4, 6)], (2, 5, 6), multiplier=ONE / 64, **FULL),
)
