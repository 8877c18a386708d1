"""Any number of programs at random, all of which pass the verifier."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from furiosa.common.tensor import DType
from furiosa.enf import TARGETS, Opcode, Program, Space, Window
from furiosa.enf.onnxgraph import GraphBuilder
from furiosa.enf.table_rules import RANGES
from support.programs import Draft


def random_program(rng: np.random.Generator) -> Program:
    """A program of every instruction in random order, geometry and arithmetic; some host sections."""
    return _Random(rng).program()


@dataclass(frozen=True)
class _Value:
    """An activation [N, C, H, W] and its zero point."""

    buffer: int
    dtype: DType
    shape: tuple[int, int, int, int]
    zero: int


class _Random:
    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.draft = Draft(self.pick(1, 2, 3), self.pick(*TARGETS))
        self.values: list[_Value] = []
        self.read: set[int] = set()

    def pick(self, *choices: Any) -> Any:
        return choices[self.rng.integers(len(choices))]

    def upto(self, high: int) -> int:
        return int(self.rng.integers(1, high + 1))

    def program(self) -> Program:
        for _ in range(self.upto(2)):
            self.start()
        makers = (
            self.convolution,
            self.convolution,
            self.depthwise,
            self.add,
            self.max_pool,
            self.reshape,
            self.requantise,
            self.on_host,
        )
        for _ in range(self.upto(8)):
            makers[self.rng.integers(len(makers))]()
        for value in self.values:
            if value.buffer not in self.read:
                self.end(value)
        return self.draft.finish()

    # every maker takes a random value and adds one

    def source(self) -> _Value:
        return self.used(self.pick(*self.values))

    def used(self, value: _Value) -> _Value:
        self.read.add(value.buffer)
        return value

    def result(self, shape: tuple[int, ...], dtype: DType | None = None) -> _Value:
        dtype = dtype or self.pick(DType.INT8, DType.UINT8)
        low, high = RANGES[dtype]
        zero = self.pick(low, high, (low + high + 1) // 2, int(self.rng.integers(low, high + 1)))
        n, c, h, w = shape
        buffer = self.draft.buffer(dtype, shape, self.pick(*Space))
        value = _Value(buffer, dtype, (n, c, h, w), zero)
        self.values.append(value)
        return value

    def clamp(self, value: _Value) -> dict[str, int]:
        low, high = RANGES[value.dtype]
        a, b = sorted(int(v) for v in self.rng.integers(low, high + 1, 2))
        low, high = self.pick((low, high), (low, high), (value.zero, high), (a, b))
        return {"low": low, "high": high}

    def pes(self) -> int:
        return self.upto((1 << TARGETS[self.draft.target]) - 1)

    def start(self) -> None:
        shape = (self.draft.batch, self.pick(1, 3, 4, 8, 16, 32), self.upto(13), self.upto(13))
        if self.pick(True, False):
            x = self.draft.input(DType.FLOAT32, shape)
            self.quantize(x, shape)
            return
        dtype = self.pick(DType.INT8, DType.UINT8)
        buffer = self.draft.input(dtype, shape)
        low, high = RANGES[dtype]
        self.values.append(_Value(buffer, dtype, shape, int(self.rng.integers(low, high + 1))))

    def quantize(self, x: int, shape: tuple[int, ...]) -> None:
        out = self.result(shape)
        scale = self.draft.constant([self.pick(0.5, 1.0, 0.1, 1 / 3, 2.0)], DType.FLOAT32)
        self.draft.emit(
            Opcode.QUANTIZE,
            out.buffer,
            x,
            multiplier=scale,
            zero_out=out.zero,
            pes=self.pes(),
            **self.clamp(out),
        )

    def dequantize(self, value: _Value) -> int:
        self.used(value)
        out = self.draft.buffer(DType.FLOAT32, value.shape, Space.DRAM)
        scale = self.draft.constant([self.pick(0.5, 1.0, 0.1, 1 / 3)], DType.FLOAT32)
        return self.draft.emit(
            Opcode.DEQUANTIZE, out, value.buffer, multiplier=scale, zero0=value.zero
        )

    def window(self, height: int, width: int, most: int) -> Window:
        while True:
            kernel = (self.upto(3), self.upto(3))
            pads = tuple(int(p) for p in self.rng.integers(0, most + 1, 4))
            dilations = (self.pick(1, 1, 2), self.pick(1, 1, 2))
            w = Window(kernel, (self.upto(3), self.upto(2)), pads, dilations)  # type: ignore[arg-type]  # four pads
            if min(_size(w, (height, width))) >= 1:
                return w

    def convolution(self, depthwise: bool = False) -> None:
        x = self.source()
        n, c, h, w = x.shape
        window = self.window(h, w, 2)
        if depthwise:
            group, results = c, c * self.pick(1, 1, 2, 3)
        else:
            group = self.pick(*(g for g in (1, 1, 2, 4) if c % g == 0))
            results = group * self.pick(1, 2, 4, 5, 16)
        window = Window(window.kernel, window.strides, window.pads, window.dilations, group)
        taps = c // group * math.prod(window.kernel)
        out = self.result((n, results, *_size(window, (h, w))))
        usual = 1.0 / (100 * math.sqrt(taps))
        multiplier = self.rng.choice(
            [usual, usual / 3, usual * 4, 0.5, 0.25, 2.0**-7, 1 / 3, 0.0, 1e30], results
        )
        weights = self.rng.integers(-128, 128, (results, c // group, *window.kernel))
        if self.pick(True, False, False):
            weights = np.sign(weights) * 127 - (weights < 0)  # every product as large as it gets
        self.draft.emit(
            Opcode.DEPTHWISE_CONV2D if depthwise else Opcode.CONV2D,
            out.buffer,
            x.buffer,
            weights=self.draft.constant(weights, DType.INT8),
            bias=self.draft.constant(
                self.rng.integers(-(10**4), 10**4, results) * self.pick(0, 1, 10**4), DType.INT32
            ),
            multiplier=self.draft.constant(multiplier, DType.FLOAT32),
            zero0=x.zero,
            zero_out=out.zero,
            window=window,
            pes=self.pes(),
            **self.clamp(out),
        )

    def depthwise(self) -> None:
        self.convolution(depthwise=True)

    def add(self) -> None:
        a = self.source()
        b = self.used(self.pick(*(v for v in self.values if v.shape == a.shape)))
        out = self.result(a.shape)
        multiplier = self.rng.choice([0.5, 0.25, 1.0, 0.7, 1.5, 1 / 3, 0.0, 1e30], 2)
        self.draft.emit(
            Opcode.ADD,
            out.buffer,
            a.buffer,
            source1=b.buffer,
            multiplier=self.draft.constant(multiplier, DType.FLOAT32),
            zero0=a.zero,
            zero1=b.zero,
            zero_out=out.zero,
            pes=self.pes(),
            **self.clamp(out),
        )

    def max_pool(self) -> None:
        x = self.source()
        n, c, h, w = x.shape
        while True:
            window = self.window(h, w, 1)
            if all(p < k for p, k in zip(window.pads, window.kernel * 2, strict=True)):
                break
        out = self.result((n, c, *_size(window, (h, w))), x.dtype)
        self.draft.emit(
            Opcode.MAX_POOL2D,
            out.buffer,
            x.buffer,
            window=window,
            pes=self.pes(),
            **self.clamp(out),
        )

    def reshape(self) -> None:
        x = self.source()
        n, c, h, w = x.shape
        shape = self.pick((n, c * h, w, 1), (n, c * h * w, 1, 1), (n, h, c, w), (n, c, 1, h * w))
        out = self.result(shape, x.dtype)
        self.draft.emit(Opcode.RESHAPE, out.buffer, x.buffer, pes=self.pes())

    def requantise(self) -> None:
        x = self.source()
        self.quantize(self.dequantize(x), x.shape)

    def on_host(self) -> None:
        """The host transposes stored values, or negates real ones."""
        x = self.source()
        n, c, h, w = x.shape
        graph = GraphBuilder("host")
        if self.pick(True, False):
            out = self.result((n, c, w, h), x.dtype)
            graph.input("in", x.dtype, x.shape)
            graph.node("Transpose", ["in"], ["out"], perm=[0, 1, 3, 2])
            graph.output("out", x.dtype, out.shape)
            self.draft.host(graph.build(), (x.buffer,), (out.buffer,))
            return
        real = self.dequantize(x)
        negated = self.draft.buffer(DType.FLOAT32, x.shape, Space.DRAM)
        graph.input("in", DType.FLOAT32, x.shape)
        graph.node("Neg", ["in"], ["out"])
        graph.output("out", DType.FLOAT32, x.shape)
        self.draft.host(graph.build(), (real,), (negated,))
        self.quantize(negated, x.shape)

    def end(self, value: _Value) -> None:
        is_input = value.buffer in {port.buffer for port in self.draft.inputs}
        real = is_input or self.pick(True, False)  # an input is no output
        self.draft.output(self.dequantize(value) if real else value.buffer)


def _size(w: Window, size: tuple[int, int]) -> tuple[int, int]:
    room = [
        size[axis] + w.pads[axis] + w.pads[axis + 2] - (w.kernel[axis] - 1) * w.dilations[axis] - 1
        for axis in (0, 1)
    ]
    return room[0] // w.strides[0] + 1, room[1] // w.strides[1] + 1
