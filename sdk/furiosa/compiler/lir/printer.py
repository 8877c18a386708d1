"""Text form of a lir. Grammar: docs/compiler/lir.md."""

from collections.abc import Iterator

from furiosa.compiler import text
from furiosa.compiler.cdfg.ir import Split
from furiosa.compiler.cdfg.printer import print_pes
from furiosa.compiler.cdfg.shares import shares
from furiosa.compiler.ldfg.ir import CONSTANTS
from furiosa.compiler.ldfg.printer import print_opcode, print_window
from furiosa.compiler.lir.ir import Lir
from furiosa.compiler.value import Array
from furiosa.enf.isa import NONE
from furiosa.enf.program import Buffer, NpuSection, Port, Section

_FIELDS = ("zero0", "zero1", "zero_out", "low", "high", "axis")


def _buffer(index: int, buffer: Buffer) -> str:
    shape = ",".join(map(str, buffer.shape))
    return (
        f"  buffer b{index} {text.name(buffer.name)}: {buffer.dtype.value}[{shape}] "
        f"{buffer.space.value}+{buffer.offset}"
    )


def _port(kind: str, port: Port) -> str:
    q = port.quantization
    scale = "" if q is None else f" q({text.number(q.scale)} @ {q.zero_point})"
    return f"  {kind} {text.name(port.name)} b{port.buffer}{scale}"


def print_shares(pes: int, split: Split, shape: tuple[int, ...]) -> str:
    """`pe0` or `pe0 rows 0..7 pe1 rows 8..15`: the part of the result that each PE makes."""
    if split is Split.NONE:
        return print_pes(pes, split)
    return " ".join(
        f"pe{pe} {split.value} {first}..{first + count - 1}"
        for pe, box in shares(shape, pes, split).items()
        for first, count in (box[split.axis],)
    )


def _instruction(graph: Lir, index: int) -> str:
    i, split = graph.instructions[index], graph.splits[index]
    operands = [f"b{source}" for source in (i.source0, i.source1) if source != NONE]
    operands += [
        f"{field}=c{getattr(i, field)}" for field in CONSTANTS if getattr(i, field) != NONE
    ]
    operands += [f"{field}={getattr(i, field)}" for field in _FIELDS if getattr(i, field)]
    return (
        f"  {index}: b{i.out} = {print_opcode(i.opcode)}({', '.join(operands)})"
        f"{print_window(i.window)} {print_shares(i.pes, split, graph.buffers[i.out].shape)}"
        f"  ; {text.word(graph.provenance[index])}"
    )


def _section(section: Section) -> str:
    if isinstance(section, NpuSection):
        return f"  section npu {section.first}..{section.first + section.count - 1}"
    inputs, outputs = (
        ", ".join(f"b{i}" for i in part) for part in (section.inputs, section.outputs)
    )
    return f"  section host c{section.graph} ({inputs}) -> ({outputs})"


def arrays(graph: Lir) -> Iterator[Array]:
    """The arrays that the text may name by a digest."""
    yield from graph.constants


def print_lir(graph: Lir) -> str:
    sizes = f"sram {graph.sram_bytes} dram {graph.dram_bytes}"
    lines = [f"{text.heading('lir', graph.model)} target {graph.target} {sizes} {{"]
    lines += (_buffer(index, buffer) for index, buffer in enumerate(graph.buffers))
    for index, data in enumerate(graph.constants):
        shape = ",".join(map(str, data.shape))
        lines.append(f"  constant c{index}: {data.dtype.name}[{shape}] {text.array(data)}")
    lines += (_port("input", port) for port in graph.inputs)
    lines += (_port("output", port) for port in graph.outputs)
    lines += map(_section, graph.sections)
    lines += (_instruction(graph, index) for index in range(len(graph.instructions)))
    return "\n".join([*lines, "}"]) + "\n"
