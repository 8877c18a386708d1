"""The graph under construction: an ONNX builder that knows how the buffers of a program are carried."""

from collections.abc import Callable, Hashable, Sequence
from typing import Any, Final, TypeVar

import numpy as np
import numpy.typing as npt

from furiosa.common.tensor import DType
from furiosa.enf import Instruction, Program
from furiosa.enf.onnxgraph import GraphBuilder
from furiosa.vnpu.npugraph.carriers import (
    FLIP,
    FROM_LAST,
    TO_LAST,
    carrier,
    channels_last,
    flip,
    inner_name,
    name,
)
from furiosa.vnpu.npugraph.machine import Machine

Array = npt.NDArray[Any]
T = TypeVar("T")
FLOAT, INT32 = 1, 6  # ONNX's numbers of the types
_FULL: Final = (0, 255)


class Graph:
    """Lowerings add the nodes of one instruction after the other; `build` gives the model.

    `joined` are buffers that are no values of the graph but parts of others: CONCATs of one axis make one
    node.
    """

    def __init__(self, program: Program, machine: Machine, joined: frozenset[int]) -> None:
        self.program = program
        self.machine = machine
        self._builder = GraphBuilder(
            "npu", opset=18
        )  # the first whose reductions all take axes alike
        self._joined = joined
        self._parts: dict[int, list[str]] = {}
        self._made: dict[Hashable, Any] = {}
        self.one = self.scale(1.0)

    # the frame

    def input(self, buffer: int, *, inner: bool) -> str:
        """Declare a buffer that is made elsewhere; returns its name there."""
        kind, shape = carrier(self.dtype(buffer)), self.shape(buffer)
        if not inner:
            return self._builder.input(name(buffer), kind, shape)
        self._builder.input(inner_name(buffer), kind, channels_last(shape))
        self._moved(buffer, inner_name(buffer), name(buffer), FROM_LAST)
        return inner_name(buffer)

    def output(self, buffer: int, *, inner: bool) -> str:
        """Declare a buffer that is read elsewhere; returns its name there."""
        kind, shape = carrier(self.dtype(buffer)), self.shape(buffer)
        if not inner:
            return self._builder.output(name(buffer), kind, shape)
        self._moved(buffer, name(buffer), inner_name(buffer), TO_LAST)
        return self._builder.output(inner_name(buffer), kind, channels_last(shape))

    def _moved(self, buffer: int, source: str, result: str, axes: tuple[int, ...]) -> None:
        if len(self.shape(buffer)) == len(axes):
            self._builder.node("Transpose", [source], [result], perm=axes)
        else:
            self._builder.node("Identity", [source], [result])

    def build(self) -> bytes:
        return self._builder.build()

    # what the program says

    def shape(self, buffer: int) -> tuple[int, ...]:
        return self.program.buffers[buffer].shape

    def dtype(self, buffer: int) -> DType:
        return self.program.buffers[buffer].dtype

    def parameters(self, i: Instruction) -> npt.NDArray[np.int64]:
        return self.program.constants[i.parameters].astype(np.int64)

    def factor(self, i: Instruction) -> str:
        """The one number that `i.multiplier` is."""
        return self.scale(self.program.constants[i.multiplier].item())

    # constants

    def constant(self, array: Array, hint: str) -> str:
        return self._builder.constant(array, hint)

    def once(self, key: Hashable, make: Callable[[], T]) -> T:
        """What `make` gives, made when first asked for.

        For everything as large as a constant, which any number of instructions may name.
        """
        if key not in self._made:
            self._made[key] = make()
        found: T = self._made[key]
        return found

    def held(self, index: int, what: str, form: Callable[[Array], Array] | None = None) -> str:
        """A constant of the program, in the one form that `what` stands for."""
        data = self.program.constants[index]
        return self.once((what, index), lambda: self.constant(form(data) if form else data, what))

    def integers(self, values: Sequence[int] | Array, hint: str = "integers") -> str:
        return self.constant(np.array(values, np.int64), hint)

    def scale(self, value: float) -> str:
        return self.constant(np.array(value, np.float32), "scale")

    def flip(self, buffer: int) -> int:
        """What is added to the values of this buffer."""
        return flip(self.dtype(buffer))

    def point(self, buffer: int, value: int) -> str:
        return self.constant(np.array(value + self.flip(buffer), np.uint8), "point")

    def carried(self, buffer: int, values: Array) -> Array:
        """Values of the buffer's type as the graph carries them."""
        return values.view(np.uint8) ^ np.uint8(FLIP) if self.flip(buffer) else values

    # nodes

    def node(self, op: str, *inputs: str, **attributes: Any) -> str:
        """A node with one result, whose name is returned."""
        return self._builder.node(op, inputs, **attributes)[0]

    def made(self, i: Instruction, op: str, *inputs: str, **attributes: Any) -> None:
        """The node that makes `i.out`."""
        self._builder.node(op, inputs, [name(i.out)], **attributes)

    def clamped(self, i: Instruction, op: str, *inputs: str, **attributes: Any) -> None:
        """The node that makes `i.out`, clamped as the instruction says."""
        flip = self.flip(i.out)
        self.within(i, (i.low + flip, i.high + flip), op, *inputs, **attributes)

    def within(
        self, i: Instruction, bounds: tuple[int, int], op: str, *inputs: str, **attributes: Any
    ) -> None:
        """The node that makes `i.out`, and a clamp to `bounds` where saturation is none already."""
        if bounds == _FULL:
            self.made(i, op, *inputs, **attributes)
            return
        ends = [self.constant(np.array(bound, np.uint8), "bound") for bound in bounds]
        self.made(i, "Clip", self.node(op, *inputs, **attributes), *ends)

    def real(self, value: str, source: int, zero: int, scale: float = 1.0) -> str:
        """float32 of a value that holds elements of `source`: (stored - zero) * scale."""
        return self.node("DequantizeLinear", value, self.scale(scale), self.point(source, zero))

    def stored(self, i: Instruction, real: str) -> None:
        """`i.out` of float32 values in its units."""
        self.clamped(i, "QuantizeLinear", real, self.one, self.point(i.out, i.zero_out))

    def scaled(self, i: Instruction, real: str) -> None:
        """`i.out` of float32 values that one number rescales."""
        self.stored(i, self.node("Mul", real, self.factor(i)))

    def reduced(self, op: str, value: str, shape: Sequence[int], axes: Sequence[int]) -> str:
        """A value of `shape` reduced over `axes`, which keep the size 1.

        Without the axes of size 1 it begins with: they cost onnxruntime its fast way (13 times the time).
        """
        first = next((axis for axis, size in enumerate(shape) if size > 1), 0)
        if first and axes[-1] >= first:
            value = self.node("Reshape", value, self.integers(shape[first:], "shape"))
            inner = [axis - first for axis in axes if axis >= first]
            result = self.node(op, value, self.integers(inner, "axes"))
            sizes = [1 if axis in axes else size for axis, size in enumerate(shape)]
            return self.node("Reshape", result, self.integers(sizes, "shape"))
        return self.node(op, value, self.integers(axes, "axes"))

    def looked_up(self, entries: str, indices: str, shape: Sequence[int]) -> str:
        """entries[indices] of `shape`, for entries of one axis and int32 indices.

        Not Gather, which copies element by element and takes nine times as long.
        """
        flat = self.node("Reshape", indices, self.integers([-1], "flat"))
        found = self.node("GatherElements", entries, flat)
        return self.node("Reshape", found, self.integers(shape, "shape"))

    def concatenated(self, i: Instruction) -> None:
        parts = [
            part
            for source in (i.source0, i.source1)
            for part in self._parts.pop(source, [name(source)])
        ]
        if i.out in self._joined:
            self._parts[i.out] = parts
        else:
            self.made(i, "Concat", *parts, axis=i.axis)


Lowering = Callable[[Graph, Instruction], None]
