"""Rules on a program's tables: names, buffers, constants, ports, sections."""

import math
from collections import Counter
from collections.abc import Iterator
from typing import Final

import numpy as np

from furiosa.common.tensor import AXES, DType
from furiosa.enf.limits import ALIGNMENT, MAX_DIMENSION, MAX_RANK, Limits
from furiosa.enf.program import TARGETS, Buffer, HostSection, NpuSection, Port, Program, Space

RANGES: Final = {
    DType.INT8: (-128, 127),
    DType.UINT8: (0, 255),
}  # of activations and their zero points
CONSTANT_DTYPES: Final = frozenset({DType.INT8, DType.UINT8, DType.INT32, DType.FLOAT32})


def target_is_known(program: Program, limits: Limits) -> Iterator[str]:
    if program.target not in TARGETS:
        yield f"target {program.target[:40]!r} is not one of {', '.join(TARGETS)}"


def counts_are_bounded(program: Program, limits: Limits) -> Iterator[str]:
    found = (
        ("instructions", len(program.instructions), limits.instructions),
        ("buffers", len(program.buffers), limits.buffers),
        ("constants", len(program.constants), limits.constants),
        ("sections", len(program.sections), limits.sections),
        ("inputs", len(program.inputs), limits.ports),
        ("outputs", len(program.outputs), limits.ports),
        ("inferences in a batch", program.batch, MAX_DIMENSION),
    )
    for what, count, maximum in found:
        if count > maximum:
            yield f"there are {count} {what}, the limit is {maximum}"
    if program.batch < 1:
        yield f"batch is {program.batch}"
    if not program.outputs:
        yield "there are no outputs"
    if len(program.provenance) != len(program.instructions):
        yield (
            f"there are {len(program.provenance)} entries of provenance "
            f"for {len(program.instructions)} instructions"
        )


def names_are_bounded(program: Program, limits: Limits) -> Iterator[str]:
    texts = [("the program's name", program.name, limits.name_bytes)]
    texts.append(("the compiler version", program.compiler_version, limits.name_bytes))
    for i, buffer in enumerate(program.buffers):
        texts.append((f"the name of buffer {i}", buffer.name, limits.name_bytes))
    for what, port in _ports(program):
        texts.append((f"the name of {what}", port.name, limits.name_bytes))
    for i, text in enumerate(program.provenance):
        texts.append((f"the provenance of instruction {i}", text, limits.provenance_bytes))
    for what, text, maximum in texts:
        try:
            size = len(text.encode())
        except UnicodeEncodeError:
            yield f"{what} is not Unicode text"
        else:
            if size > maximum:
                yield f"{what} has {size} bytes, the limit is {maximum}"
    if len(program.source_sha256) != 32:
        yield f"the source hash has {len(program.source_sha256)} bytes, not 32"


def shapes_are_bounded(program: Program, limits: Limits) -> Iterator[str]:
    tensors = [(f"buffer {i}", b.shape, b.dtype.itemsize) for i, b in enumerate(program.buffers)]
    tensors += [
        (f"constant {i}", c.shape, c.dtype.itemsize) for i, c in enumerate(program.constants)
    ]
    for what, shape, itemsize in tensors:
        if len(shape) > MAX_RANK:
            yield f"{what} has rank {len(shape)}, the limit is {MAX_RANK}"
        elif not all(1 <= size <= MAX_DIMENSION for size in shape):
            yield f"{what} has shape {list(shape)}: dimensions are 1 to {MAX_DIMENSION}"
        elif math.prod(shape) * itemsize > limits.tensor_bytes:
            size = math.prod(shape) * itemsize
            yield f"{what} has {size} bytes, the limit is {limits.tensor_bytes}"


def constants_have_a_used_type(program: Program, limits: Limits) -> Iterator[str]:
    for i, constant in enumerate(program.constants):
        if constant.dtype.name not in {dtype.value for dtype in CONSTANT_DTYPES}:
            yield f"constant {i} is {constant.dtype.name}: no instruction reads that"


def buffers_fit_their_space(program: Program, limits: Limits) -> Iterator[str]:
    spaces = {
        Space.DRAM: (program.dram_bytes, limits.dram_bytes),
        Space.SRAM: (program.sram_bytes, limits.sram_bytes),
    }
    for space, (size, maximum) in spaces.items():
        if not 0 <= size <= maximum:
            yield f"{space.value}_bytes is {size}, the card has {maximum}"
    for i, buffer in enumerate(program.buffers):
        if buffer.offset < 0 or buffer.offset % ALIGNMENT:
            yield f"{_named(i, buffer)} starts at {buffer.offset}, no multiple of {ALIGNMENT}"
        end, size = buffer.offset + buffer.nbytes, spaces[buffer.space][0]
        if end > size:
            yield f"{_named(i, buffer)} ends at {end} of {buffer.space.value}, which has {size}"


def ports_are_sound(program: Program, limits: Limits) -> Iterator[str]:
    for what, port in _ports(program):
        if not 0 <= port.buffer < len(program.buffers):
            yield f"{what} is buffer {port.buffer} of {len(program.buffers)}"
            return
        yield from _port(f"{what} ({port.name!r})", port, program)
    for what, ports in (("inputs", program.inputs), ("outputs", program.outputs)):
        for value, count in Counter(port.name for port in ports).items():
            if count > 1:
                yield f"{count} {what} are called {value!r}"
    for buffer, count in Counter(port.buffer for _, port in _ports(program)).items():
        if count > 1:
            yield f"buffer {buffer} serves {count} inputs and outputs"


def _port(what: str, port: Port, program: Program) -> Iterator[str]:
    buffer = program.buffers[port.buffer]
    if not port.name:
        yield f"{what} has no name"
    first = buffer.shape[0] if buffer.shape else 1
    if first % program.batch:
        yield f"{what} has {first} rows, no multiple of the batch of {program.batch}"
    if port.axes and (len(port.axes) != len(buffer.shape) or not set(port.axes) <= set(AXES)):
        yield f"{what} has {len(buffer.shape)} dimensions and the axes {port.axes[:16]!r}"
    if port.extent and (
        len(port.extent) != len(buffer.shape)
        or not all(1 <= e <= size for e, size in zip(port.extent, buffer.shape, strict=True))
    ):
        yield f"{what} has the shape {list(buffer.shape)} and the extent {list(port.extent[:16])}"
    q = port.quantization
    if q is None:
        return
    low, high = RANGES.get(buffer.dtype, (0, -1))
    if not low <= q.zero_point <= high:
        yield f"{what} is {buffer.dtype.value} and has the zero point {q.zero_point}"
    with np.errstate(over="ignore"):
        exact = float(np.float32(q.scale)) == q.scale
    if not (math.isfinite(q.scale) and q.scale > 0 and exact):
        yield f"{what} has the scale {q.scale}: not a positive float32"


def sections_cover_the_instructions(program: Program, limits: Limits) -> Iterator[str]:
    covered = 0
    for i, section in enumerate(program.sections):
        if isinstance(section, NpuSection):
            if section.first != covered or section.count < 1:
                yield (
                    f"section {i} has {section.count} instructions from {section.first} on, "
                    f"expected at least one from {covered} on"
                )
            covered += section.count
    if covered != len(program.instructions):
        yield f"the sections cover {covered} of {len(program.instructions)} instructions"


def host_sections_are_sound(program: Program, limits: Limits) -> Iterator[str]:
    for i, section in enumerate(program.sections):
        if not isinstance(section, HostSection):
            continue
        if not 0 <= section.graph < len(program.constants):
            yield f"section {i} runs constant {section.graph} of {len(program.constants)}"
            continue
        graph = program.constants[section.graph]
        if graph.dtype.name != "uint8" or graph.ndim != 1 or graph.nbytes > limits.graph_bytes:
            yield (
                f"section {i} runs a constant of {graph.dtype.name} {list(graph.shape)}: a graph is "
                f"uint8 of rank 1 and at most {limits.graph_bytes} bytes"
            )
        for buffer in (*section.inputs, *section.outputs):
            if not 0 <= buffer < len(program.buffers):
                yield f"section {i} uses buffer {buffer} of {len(program.buffers)}"
        if not section.outputs:
            yield f"section {i} has no outputs"
        for values in (section.inputs, section.outputs):
            if len(set(values)) != len(values):
                yield f"section {i} names a buffer twice: {list(values)[:16]}"


def _ports(program: Program) -> Iterator[tuple[str, Port]]:
    for i, port in enumerate(program.inputs):
        yield f"input {i}", port
    for i, port in enumerate(program.outputs):
        yield f"output {i}", port


def _named(index: int, buffer: Buffer) -> str:
    return f"buffer {index} ({buffer.name!r})"
