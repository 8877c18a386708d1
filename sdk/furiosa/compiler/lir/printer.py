"""Text form of a lir. Grammar: docs/compiler/lir.md."""

from furiosa.compiler import text
from furiosa.compiler.cdfg.printer import print_pes
from furiosa.compiler.ldfg.printer import print_opcode, print_window
from furiosa.compiler.lir.ir import Lir
from furiosa.enf.isa import NONE, Instruction
from furiosa.enf.program import Buffer, NpuSection, Port, Section

_FIELDS = ("zero0", "zero1", "zero_out", "low", "high")


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


def _instruction(index: int, i: Instruction, origin: str) -> str:
    operands = [f"b{i.source0}"]
    if i.source1 != NONE:
        operands.append(f"b{i.source1}")
    operands += [
        f"{field}=c{getattr(i, field)}"
        for field in ("weights", "bias", "multiplier")
        if getattr(i, field) != NONE
    ]
    operands += [f"{field}={getattr(i, field)}" for field in _FIELDS if getattr(i, field)]
    return (
        f"  {index}: b{i.out} = {print_opcode(i.opcode)}({', '.join(operands)})"
        f"{print_window(i.window)} {print_pes(i.pes)}  ; {text.word(origin)}"
    )


def _section(section: Section) -> str:
    if isinstance(section, NpuSection):
        return f"  section npu {section.first}..{section.first + section.count - 1}"
    inputs, outputs = (
        ", ".join(f"b{i}" for i in part) for part in (section.inputs, section.outputs)
    )
    return f"  section host c{section.graph} ({inputs}) -> ({outputs})"


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
    lines += (
        _instruction(index, instruction, origin)
        for index, (instruction, origin) in enumerate(
            zip(graph.instructions, graph.provenance, strict=True)
        )
    )
    return "\n".join([*lines, "}"]) + "\n"
