"""ldfgs of NPU operations: chains drawn by hand, and any number at random."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from furiosa.common.tensor import DType
from furiosa.compiler.ldfg.ir import HostNode, HostSection, Ldfg, NpuNode, NpuSection, Section
from furiosa.compiler.value import ModelInfo, Value
from furiosa.enf.isa import Opcode, Window

INFO = ModelInfo("plan", 13, 1, bytes(32))
F = np.float32
FULL: dict[str, Any] = {"low": -128, "high": 127}


class Plan:
    """An ldfg under construction. Every method returns the name of the value it makes.

    Nodes join the section before them, if that is of their place.
    """

    def __init__(self) -> None:
        self.values: dict[str, Value] = {}
        self.inputs: list[str] = []
        self.sections: list[Section] = []

    def value(self, shape: Sequence[int], dtype: DType = DType.INT8) -> str:
        name = f"v{len(self.values)}"
        self.values[name] = Value(name, dtype, tuple(shape))
        return name

    def shape(self, name: str) -> tuple[int, ...]:
        return self.values[name].shape

    def input(self, *shape: int) -> str:
        self.inputs.append(self.value(shape))
        return self.inputs[-1]

    def node(
        self, opcode: Opcode, inputs: Sequence[str], shape: Sequence[int], **fields: Any
    ) -> str:
        name = self.value(shape)
        node = NpuNode(
            f"{opcode.name.lower()}.{name}", opcode, tuple(inputs), name, ("s",), **fields
        )
        last = self.sections[-1] if self.sections else None
        if isinstance(last, NpuSection):
            self.sections[-1] = NpuSection((*last.nodes, node))
        else:
            self.sections.append(NpuSection((node,)))
        return name

    def host(self, source: str) -> str:
        name = self.value(self.shape(source))
        node = HostNode(f"neg.{name}", "Neg", (source,), (name,), {}, ("s",))
        last = self.sections[-1] if self.sections else None
        if isinstance(last, HostSection):
            self.sections[-1] = HostSection((*last.nodes, node))
        else:
            self.sections.append(HostSection((node,)))
        return name

    def conv(self, source: str, channels: int, kernel: int = 1, stride: int = 1) -> str:
        n, c, h, w = self.shape(source)
        window = Window((kernel,) * 2, (stride,) * 2, (kernel // 2,) * 4)
        out = [(size + kernel // 2 * 2 - kernel) // stride + 1 for size in (h, w)]
        weights = np.zeros((channels, c, kernel, kernel), np.int8)
        weights.flat[0] = len(self.values) % 100
        return self.node(
            Opcode.CONV2D,
            [source],
            (n, channels, *out),
            weights=weights,
            bias=np.zeros(channels, np.int32),
            multiplier=np.full(channels, 0.1, F),
            window=window,
            **FULL,
        )

    def add(self, left: str, right: str) -> str:
        given: dict[str, Any] = {"multiplier": np.ones(2, F), **FULL}
        return self.node(Opcode.ADD, [left, right], self.shape(left), **given)

    def table(self, source: str) -> str:
        weights = np.arange(-128, 128).astype(np.int8)
        return self.node(Opcode.TABLE, [source], self.shape(source), weights=weights)

    def max_pool(self, source: str) -> str:
        n, c, h, w = self.shape(source)
        window = Window((2, 2), (2, 2))
        return self.node(Opcode.MAX_POOL2D, [source], (n, c, h // 2, w // 2), window=window, **FULL)

    def reshape(self, source: str, *shape: int) -> str:
        return self.node(Opcode.RESHAPE, [source], shape)

    def done(self, *outputs: str) -> Ldfg:
        return Ldfg(INFO, tuple(self.inputs), outputs, tuple(self.sections), self.values)


def chain(size: int = 32, channels: int = 64, length: int = 4) -> Ldfg:
    """3x3 convolutions of one size, one after another."""
    plan = Plan()
    value = plan.input(1, channels, size, size)
    for _ in range(length):
        value = plan.conv(value, channels, 3)
    return plan.done(value)


def random_ldfg(rng: np.random.Generator) -> Ldfg:
    """Operations of most kinds in random order and size; some host sections; one or more outputs."""
    plan = Plan()
    batch = int(rng.choice([1, 1, 2, 3]))
    size = int(rng.integers(2, 20))
    images = [plan.input(batch, int(rng.integers(1, 20)), size, size)]
    read: set[str] = set()

    def pick() -> str:
        name = images[int(rng.integers(max(0, len(images) - 4), len(images)))]
        read.add(name)
        return name

    def pooled(x: str) -> str:
        return plan.max_pool(x) if min(plan.shape(x)[2:]) > 1 else plan.table(x)

    def joined(x: str) -> str:
        other = next((y for y in images if y != x and plan.shape(y) == plan.shape(x)), x)
        read.add(other)
        return plan.add(x, other)

    def stacked(x: str) -> str:
        n, c, h, w = plan.shape(x)
        return plan.node(Opcode.CONCAT, [x, x], (n, 2 * c, h, w), axis=1)

    def turned(x: str) -> str:
        n, c, h, w = plan.shape(x)
        order = np.array([0, 1, 3, 2], np.int32)
        return plan.node(Opcode.TRANSPOSE, [x], (n, c, w, h), parameters=order)

    def flat(x: str) -> str:
        n, c, h, w = plan.shape(x)
        return plan.reshape(plan.reshape(x, n, c * h * w), n, c, h, w)

    def loaded(x: str) -> str:
        shape = plan.shape(x)
        constant = plan.node(Opcode.LOAD, [], shape, weights=np.ones(shape, np.int8))
        return plan.add(x, constant)

    makers: tuple[Callable[[str], str], ...] = (
        lambda x: plan.conv(x, int(rng.integers(1, 40)), int(rng.choice([1, 3])), 1),
        lambda x: plan.conv(x, int(rng.integers(1, 40)), 3, 2),
        pooled,
        joined,
        joined,
        stacked,
        turned,
        flat,
        loaded,
        plan.table,
        plan.host,
    )
    for _ in range(int(rng.integers(1, 14))):
        make = makers[int(rng.integers(len(makers)))]
        images += [make(pick())]
    images += [plan.table(pick())]
    return plan.done(*(name for name in images if name not in read and name not in plan.inputs))
