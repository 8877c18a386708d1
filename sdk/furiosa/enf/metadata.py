"""The metadata section: a Program without its instructions and constant bytes, as protobuf.

The one file of this package that knows protobuf.
"""

import math
from collections.abc import Sequence
from typing import Any, Final, TypeVar

import numpy as np
import numpy.typing as npt

from furiosa.common.errors import InvalidProgram
from furiosa.common.tensor import DType, Quantization
from furiosa.enf.isa import Instruction
from furiosa.enf.limits import MAX_DIMENSION, MAX_RANK, Limits, aligned, bounded
from furiosa.enf.program import Buffer, HostSection, NpuSection, Port, Program, Section, Space
from furiosa.enf.protoscan import Malformed, parse
from furiosa.proto.enf.v1 import program_pb2 as pb

_DTYPES: Final = {
    pb.DATA_TYPE_FLOAT32: DType.FLOAT32,
    pb.DATA_TYPE_INT8: DType.INT8,
    pb.DATA_TYPE_UINT8: DType.UINT8,
    pb.DATA_TYPE_INT32: DType.INT32,
    pb.DATA_TYPE_INT64: DType.INT64,
    pb.DATA_TYPE_FLOAT16: DType.FLOAT16,
    pb.DATA_TYPE_INT16: DType.INT16,
    pb.DATA_TYPE_BOOL: DType.BOOL,
}
_SPACES: Final = {pb.MEMORY_SPACE_DRAM: Space.DRAM, pb.MEMORY_SPACE_SRAM: Space.SRAM}
_DTYPE_NUMBERS: Final = {dtype: number for number, dtype in _DTYPES.items()}
_SPACE_NUMBERS: Final = {space: number for number, space in _SPACES.items()}

Array = npt.NDArray[np.generic]
Value = TypeVar("Value")


def encode(program: Program) -> tuple[bytes, bytes]:
    """The metadata section and the constants section of a verified program."""
    message = pb.Program(
        target=program.target,
        compiler_version=program.compiler_version,
        source_sha256=program.source_sha256,
        name=program.name,
        batch=program.batch,
        inputs=map(_port, program.inputs),
        outputs=map(_port, program.outputs),
        buffers=[
            pb.Buffer(
                name=b.name,
                data_type=_DTYPE_NUMBERS[b.dtype],
                shape=b.shape,
                space=_SPACE_NUMBERS[b.space],
                offset=b.offset,
            )
            for b in program.buffers
        ],
        sections=map(_section, program.sections),
        dram_bytes=program.dram_bytes,
        sram_bytes=program.sram_bytes,
        provenance=program.provenance,
    )
    pieces: list[bytes] = []
    end = 0
    for array in program.constants:
        dtype = DType.of(array.dtype)
        offset = aligned(end)
        message.constants.add(data_type=_DTYPE_NUMBERS[dtype], shape=array.shape, offset=offset)
        pieces += [bytes(offset - end), array.astype(dtype.numpy, copy=False).tobytes()]
        end = offset + array.nbytes
    return message.SerializeToString(deterministic=True), b"".join(pieces)


def _port(port: Port) -> pb.Port:
    message = pb.Port(name=port.name, buffer=port.buffer, axes=port.axes, extent=port.extent)
    if port.quantization is not None:
        message.quantization.scale = port.quantization.scale
        message.quantization.zero_point = port.quantization.zero_point
    return message


def _section(section: Section) -> pb.Section:
    if isinstance(section, NpuSection):
        return pb.Section(
            kind=pb.SECTION_KIND_NPU,
            first_instruction=section.first,
            instruction_count=section.count,
        )
    return pb.Section(
        kind=pb.SECTION_KIND_HOST,
        graph_constant=section.graph,
        inputs=section.inputs,
        outputs=section.outputs,
    )


def decode(
    data: memoryview, instructions: tuple[Instruction, ...], constants: memoryview, limits: Limits
) -> Program:
    """A program whose constants are read-only views of `constants`. Not verified yet.

    Raises: InvalidProgram.
    """
    message = _parse(data, limits)
    counts = {"buffers": limits.buffers, "constants": limits.constants, "sections": limits.sections}
    for name, maximum in counts.items():
        bounded("counts-are-bounded", f"the number of {name}", len(getattr(message, name)), maximum)
    return Program(
        name=message.name,
        target=message.target,
        compiler_version=message.compiler_version,
        source_sha256=message.source_sha256,
        batch=message.batch,
        inputs=tuple(map(_read_port, message.inputs)),
        outputs=tuple(map(_read_port, message.outputs)),
        buffers=tuple(_read_buffer(i, b) for i, b in enumerate(message.buffers)),
        constants=_read_constants(message.constants, constants),
        sections=tuple(_read_section(i, s) for i, s in enumerate(message.sections)),
        instructions=instructions,
        provenance=tuple(message.provenance),
        dram_bytes=message.dram_bytes,
        sram_bytes=message.sram_bytes,
    )


def _parse(data: memoryview, limits: Limits) -> pb.Program:
    bounded("metadata", "the size of the metadata", len(data), limits.metadata_bytes)
    message = pb.Program()
    try:
        parse(bytes(data), message, pb.Program.DESCRIPTOR, limits.metadata_fields)
    except Malformed as error:
        raise InvalidProgram("metadata", f"the metadata cannot be parsed: {error}") from None
    return message


def _known(table: dict[Any, Value], number: int, where: str) -> Value:
    value = table.get(number)
    if value is None:
        raise InvalidProgram("metadata", f"{where} is {number}, which means nothing here")
    return value


def _read_port(message: pb.Port) -> Port:
    quantization = None
    if message.HasField("quantization"):
        q = message.quantization
        quantization = Quantization(q.scale, q.zero_point)
    return Port(message.name, message.buffer, quantization, message.axes, tuple(message.extent))


def _read_buffer(index: int, message: pb.Buffer) -> Buffer:
    return Buffer(
        name=message.name,
        dtype=_known(_DTYPES, message.data_type, f"the data type of buffer {index}"),
        shape=_read_shape(message.shape, f"buffer {index}"),
        space=_known(_SPACES, message.space, f"the memory space of buffer {index}"),
        offset=message.offset,
    )


def _read_shape(shape: Sequence[int], where: str) -> tuple[int, ...]:
    # bounded before the product of the dimensions is taken: a thousand of them make a long integer
    if len(shape) > MAX_RANK:
        raise InvalidProgram("shapes", f"{where} has rank {len(shape)}, the limit is {MAX_RANK}")
    for size in shape:
        if not 1 <= size <= MAX_DIMENSION:
            raise InvalidProgram("shapes", f"{where} has a dimension of {size}")
    return tuple(shape)


def _read_constants(messages: Sequence[pb.Constant], data: memoryview) -> tuple[Array, ...]:
    arrays: list[Array] = []
    end = 0
    for index, message in enumerate(messages):
        dtype = _known(_DTYPES, message.data_type, f"the data type of constant {index}")
        shape = _read_shape(message.shape, f"constant {index}")
        start = aligned(end)
        if message.offset != start:
            raise InvalidProgram(
                "constants", f"constant {index} starts at {message.offset}, expected {start}"
            )
        size = math.prod(shape) * dtype.itemsize
        if size > len(data) - start:
            raise InvalidProgram(
                "constants", f"constant {index} ends at {start + size}, the section at {len(data)}"
            )
        if any(data[end:start]):
            raise InvalidProgram("padding", f"the bytes before constant {index} are not zero")
        end = start + size
        # both supported machines are little-endian, as the file is
        arrays.append(np.frombuffer(data[start:end], dtype.numpy).reshape(shape))
    if end != len(data):
        raise InvalidProgram("constants", f"{len(data) - end} bytes follow the last constant")
    return tuple(arrays)


def _section_fields(message: pb.Section) -> tuple[bool, bool]:
    npu = bool(message.first_instruction or message.instruction_count)
    host = bool(message.graph_constant or message.inputs or message.outputs)
    return npu, host


def _read_section(index: int, message: pb.Section) -> Section:
    npu, host = _section_fields(message)
    if message.kind == pb.SECTION_KIND_NPU and not host:
        return NpuSection(message.first_instruction, message.instruction_count)
    if message.kind == pb.SECTION_KIND_HOST and not npu:
        return HostSection(message.graph_constant, tuple(message.inputs), tuple(message.outputs))
    raise InvalidProgram(
        "metadata", f"section {index} of kind {message.kind} has fields of another kind"
    )
