"""Reads the text form of a lir. Grammar: docs/compiler/lir.md."""

from typing import TYPE_CHECKING, Any

from furiosa.compiler.cdfg.ir import Split
from furiosa.compiler.cdfg.parser import read_pe, read_split, read_target
from furiosa.compiler.ldfg.ir import CONSTANTS, PIXEL
from furiosa.compiler.ldfg.parser import FIELDS, read_opcode, read_window_field
from furiosa.compiler.lir.ir import Lir
from furiosa.compiler.reader import Reader
from furiosa.enf.isa import Instruction
from furiosa.enf.program import Buffer, HostSection, NpuSection, Port, Section, Space

if TYPE_CHECKING:
    from furiosa.compiler.value import Array


def parse_lir(source: str) -> Lir:
    """The graph whose text this is; its rules are not checked. Raises: InvalidFormat."""
    return _Lir(Reader(source)).graph()


class _Lir:
    def __init__(self, read: Reader) -> None:
        self._read = read
        self._buffers: list[Buffer] = []
        self._constants: list[Array] = []

    def graph(self) -> Lir:
        read = self._read
        info = read.heading("lir")
        target = read_target(read)
        read.expect("sram")
        sram = read.integer()
        read.expect("dram")
        dram = read.integer()
        read.expect("{")
        while read.has("buffer"):
            self._buffers.append(self._buffer())
        while read.has("constant"):
            if self._constant() != len(self._constants):
                read.fail(f"c{len(self._constants)} before this")
            read.expect(":")
            self._constants.append(read.typed_array())
        ports: dict[str, list[Port]] = {"input": [], "output": []}
        for kind, found in ports.items():
            while read.has(kind):
                found.append(self._port())
        sections: list[Section] = []
        while read.has("section"):
            sections.append(self._section())
        instructions: list[Instruction] = []
        splits: list[Split] = []
        provenance: list[str] = []
        while not read.has("}"):
            if read.integer() != len(instructions):
                read.fail(f"instruction {len(instructions)} before this")
            instruction, split = self._instruction()
            instructions.append(instruction)
            splits.append(split)
            read.expect(";")
            provenance.append(read.word())
        read.end()
        return Lir(
            info,
            target,
            tuple(ports["input"]),
            tuple(ports["output"]),
            tuple(self._buffers),
            tuple(self._constants),
            tuple(sections),
            tuple(instructions),
            tuple(splits),
            tuple(provenance),
            dram,
            sram,
        )

    def _ref(self) -> int:
        """`b` and the number of a buffer that there is."""
        self._read.expect_glued("b")
        index = self._read.integer()
        if not 0 <= index < len(self._buffers):
            self._read.fail(f"one of the {len(self._buffers)} buffers, not b{index}, before this")
        return index

    def _refs(self) -> tuple[int, ...]:
        return self._read.listed(self._ref, "(", ")")

    def _constant(self) -> int:
        self._read.expect_glued("c")
        return self._read.integer()

    def _known_constant(self) -> int:
        index = self._constant()
        if not 0 <= index < len(self._constants):
            self._read.fail(f"one of the {len(self._constants)} constants before this")
        return index

    def _buffer(self) -> Buffer:
        read = self._read
        read.expect_glued("b")
        if read.integer() != len(self._buffers):
            read.fail(f"b{len(self._buffers)} before this")
        value = read.declared()
        space = next((space for space in Space if read.has(space.value)), None)
        if space is None:
            read.fail("where the buffer lies")
        read.expect("+")
        return Buffer(value.name, value.dtype, value.shape, space, read.integer())

    def _port(self) -> Port:
        read = self._read
        name, buffer = read.name(), self._ref()
        params = read.quantization()
        whole = None if params is None else params.whole
        if params is not None and whole is None:
            read.fail("one scale before this")
        return Port(name, buffer, whole)

    def _section(self) -> Section:
        read = self._read
        if read.has("npu"):
            first = read.integer()
            read.expect("..")
            return NpuSection(first, read.integer() - first + 1)
        read.expect("host")
        graph, inputs = self._known_constant(), self._refs()
        read.expect("->")
        return HostSection(graph, inputs, self._refs())

    def _instruction(self) -> tuple[Instruction, Split]:
        read = self._read
        read.expect(":")
        out = self._ref()
        read.expect("=")
        opcode = read_opcode(read)
        fields: dict[str, Any] = {}
        sources: list[int] = []

        def operand() -> None:
            if read.sees_glued("b"):
                sources.append(self._ref())
                return
            key = read.key()
            read.expect("=")
            if key in CONSTANTS:
                fields[key] = self._known_constant()
            elif key in FIELDS:
                fields[key] = read.integer()
            else:
                read.fail(f"a field of an instruction instead of {key!r} before this")

        read.listed(operand, "(", ")")
        if len(sources) > 2:
            read.fail("at most two sources before this")
        window = PIXEL
        while not read.sees_glued("pe"):
            key = read.key()
            read.expect("=")
            window = read_window_field(read, key, window)
        pes, split = self._shares()
        fields |= {f"source{n}": source for n, source in enumerate(sources)}
        return Instruction(opcode, out, **fields, window=window, pes=pes), split

    def _shares(self) -> tuple[int, Split]:
        """`pe0` or `pe0 rows 0..7 pe1 rows 8..15`"""
        read = self._read
        mask, split = 0, Split.NONE
        while read.sees_glued("pe"):
            read.expect_glued("pe")
            for pe in read.joined(lambda: read_pe(read), "+"):
                mask |= 1 << pe
            if (found := read_split(read)) is not Split.NONE:
                split = found
                read.integer()
                read.expect("..")
                read.integer()
        return mask, split
