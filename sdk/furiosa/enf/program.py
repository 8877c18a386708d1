"""A program for the virtual Warboy as a value: what the writer takes and the reader returns."""

import math
from dataclasses import dataclass
from enum import Enum

import numpy as np
import numpy.typing as npt

from furiosa.common.tensor import DType, Quantization, TensorSpec
from furiosa.enf.isa import Instruction


class Space(Enum):
    DRAM = "dram"
    SRAM = "sram"


@dataclass(frozen=True, slots=True)
class Buffer:
    """A tensor in device memory; `offset` is in bytes from the start of its space, a multiple of 64."""

    name: str
    dtype: DType
    shape: tuple[int, ...]
    space: Space
    offset: int

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


@dataclass(frozen=True, slots=True)
class Port:
    """A program input or output: the buffer that holds it and how to read its values.

    `axes` and `extent` are as of a TensorSpec.
    """

    name: str
    buffer: int
    quantization: Quantization | None = None
    axes: str = ""
    extent: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class NpuSection:
    """`count` instructions from `first` on."""

    first: int
    count: int


@dataclass(frozen=True, slots=True)
class HostSection:
    """One ONNX graph run by the CPU beside the NPU; `graph` is the constant with its bytes."""

    graph: int
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


Section = NpuSection | HostSection


@dataclass(frozen=True, slots=True, eq=False)
class Program:
    """A compiled program. Constants are read-only arrays, possibly views into the file's bytes."""

    name: str
    target: str  # a key of TARGETS
    compiler_version: str
    source_sha256: bytes  # 32 bytes
    batch: int
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    buffers: tuple[Buffer, ...]
    constants: tuple[npt.NDArray[np.generic], ...]
    sections: tuple[
        Section, ...
    ]  # in order of execution; NPU sections cover all instructions, in order
    instructions: tuple[Instruction, ...]
    provenance: tuple[str, ...]  # per instruction: source operators, joined with "+"
    dram_bytes: int
    sram_bytes: int

    def spec(self, port: Port) -> TensorSpec:
        buffer = self.buffers[port.buffer]
        return TensorSpec(
            port.name, buffer.dtype, buffer.shape, port.quantization, port.axes, port.extent
        )

    @property
    def device_bytes(self) -> int:
        """The DRAM that a card needs for it as long as it is loaded: constants and buffers."""
        return self.dram_bytes + sum(constant.nbytes for constant in self.constants)

    @property
    def input_specs(self) -> tuple[TensorSpec, ...]:
        return tuple(map(self.spec, self.inputs))

    @property
    def output_specs(self) -> tuple[TensorSpec, ...]:
        return tuple(map(self.spec, self.outputs))


TARGETS = {"warboy": 1, "warboy-2pe": 2}  # name to number of PEs. Source: compiler reference 3.1
