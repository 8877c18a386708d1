"""A program as text, for people and golden tests. Strings of the file are shown quoted."""

from collections.abc import Iterator

from furiosa.enf.instruction_rules import FIELDS, OPERANDS
from furiosa.enf.isa import Instruction
from furiosa.enf.program import NpuSection, Port, Program


def dump(program: Program) -> str:
    """`%n` is buffer n, `$n` constant n; what an instruction does not use is left out."""
    return "\n".join(_lines(program)) + "\n"


def _lines(program: Program) -> Iterator[str]:
    yield f"program {program.name!r} for {program.target}, batch {program.batch}"
    yield f"compiler {program.compiler_version!r}, source {program.source_sha256.hex()}"
    yield f"memory dram {program.dram_bytes}, sram {program.sram_bytes}"
    for kind, ports in (("input", program.inputs), ("output", program.outputs)):
        yield from (f"{kind} {_port(port)}" for port in ports)
    for index, b in enumerate(program.buffers):
        place = f"{b.space.value}+{b.offset}"
        yield f"buffer %{index} {b.dtype.value}{list(b.shape)} at {place} {b.name!r}"
    for index, constant in enumerate(program.constants):
        yield f"constant ${index} {constant.dtype.name}{list(constant.shape)}"
    for section in program.sections:
        if isinstance(section, NpuSection):
            yield "npu"
            for index in range(section.first, section.first + section.count):
                text = _instruction(program.instructions[index])
                yield f"  {index}: {text}  # {program.provenance[index]!r}"
        else:
            outputs, inputs = _buffers(section.outputs), _buffers(section.inputs)
            yield f"host\n  {outputs} = ${section.graph}({inputs})"


def _port(port: Port) -> str:
    q = port.quantization
    scale = f" scale {q.scale!r} zero {q.zero_point}" if q else ""
    return f"%{port.buffer} {port.name!r}{scale}"


def _instruction(i: Instruction) -> str:
    operands, fields = OPERANDS[i.opcode], FIELDS[i.opcode]
    words = [f"%{i.out} = {i.opcode.name.lower()}"]
    words += [f"%{getattr(i, name)}" for name in ("source0", "source1") if name in operands]
    constants = ("weights", "bias", "multiplier", "parameters")
    words += [f"{name} ${getattr(i, name)}" for name in constants if name in operands]
    zeros = ("zero0", "zero1", "zero_out")
    words += [f"{name} {getattr(i, name)}" for name in zeros if name in fields]
    if "low" in fields:
        words.append(f"clamp {i.low}..{i.high}")
    if "axis" in fields:
        words.append(f"axis {i.axis}")
    if "window" in fields:
        w = i.window
        for name, sizes in (("kernel", w.kernel), ("strides", w.strides), ("pads", w.pads)):
            words.append(f"{name} {_sizes(sizes)}")
        words.append(f"dilations {_sizes(w.dilations)} group {w.group}")
    words.append(f"pes {i.pes:#b}")
    return " ".join(words)


def _sizes(sizes: tuple[int, ...]) -> str:
    return "x".join(map(str, sizes))


def _buffers(indices: tuple[int, ...]) -> str:
    return ", ".join(f"%{index}" for index in indices)
