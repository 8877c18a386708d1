"""Reads the text form of a gir. Grammar: docs/compiler/gir.md."""

from typing import Any

from furiosa.compiler.cdfg.parser import read_place, read_target, read_task
from furiosa.compiler.gir.ir import Buffer, Gir, HostTask, NpuTask, Operation, Role, Task
from furiosa.compiler.ldfg.ir import NpuNode
from furiosa.compiler.ldfg.parser import read_field, read_host_node, read_opcode
from furiosa.compiler.reader import Names, Reader
from furiosa.compiler.value import Value
from furiosa.enf.program import Space


def parse_gir(source: str) -> Gir:
    """The graph whose text this is; its rules are not checked. Raises: InvalidFormat."""
    return _Gir(Reader(source)).graph()


class _Gir:
    def __init__(self, read: Reader) -> None:
        self._read = read
        self._names = Names(read)  # of host tasks' insides and what they read
        self._buffers: list[Buffer] = []

    def graph(self) -> Gir:
        read = self._read
        info = read.heading("gir")
        target = read_target(read)
        sizes = []
        for space in ("sram", "dram"):
            read.expect(space)
            sizes.append(read.integer())
            read.expect("of")
            sizes.append(read.integer())
        read.expect("{")
        read.comment()
        while read.has("buffer"):
            self._buffers.append(self._buffer())
        for buffer in self._buffers:
            if buffer.alias is not None:
                self._known((buffer.alias,))
        while read.has("const"):
            self._names.define(read.constant())
        read.expect("inputs")
        inputs = self._refs()
        tasks: list[Task] = []
        while not read.has("outputs"):
            tasks.append(self._task(len(tasks)))
        outputs = self._refs()
        read.expect("}")
        read.end()
        sram, sram_capacity, dram, dram_capacity = sizes
        used = {
            name: self._names.values[name]
            for task in tasks
            if isinstance(task, HostTask)
            for node in task.nodes
            for name in (*node.reads, *node.writes)
        }
        return Gir(
            info,
            target,
            inputs,
            outputs,
            tuple(self._buffers),
            tuple(tasks),
            used,
            sram,
            dram,
            sram_capacity,
            dram_capacity,
        )

    def _known(self, indices: tuple[int, ...]) -> tuple[int, ...]:
        for index in indices:
            if not 0 <= index < len(self._buffers):
                self._read.fail(
                    f"one of the {len(self._buffers)} buffers, not b{index}, before this"
                )
        return indices

    def _ref(self) -> int:
        self._read.expect_glued("b")
        return self._read.integer()

    def _refs(self) -> tuple[int, ...]:
        return self._known(self._read.listed(self._ref, "(", ")"))

    def _buffer(self) -> Buffer:
        read = self._read
        if self._ref() != len(self._buffers):
            read.fail(f"b{len(self._buffers)} before this")
        value = read.declared()
        role = next((role for role in Role if read.has(role.value)), None)
        space = next((space for space in Space if read.has(space.value)), None)
        if role is None or space is None:
            read.fail("what the buffer is for and where it lies")
        offset = read.integer() if read.has("+") else None
        if read.integer() != value.nbytes:
            read.fail(f"{value.nbytes} bytes before this")
        read.expect("bytes")
        read.expect("steps")
        first = read.integer()
        read.expect("..")
        last = read.integer()
        spilled = read.has("spilled")
        alias = None
        if read.has("in"):
            read.expect("place")
            read.expect("of")
            alias = self._ref()
        return Buffer(
            value.name,
            value.dtype,
            value.shape,
            value.quantization,
            role,
            space,
            first,
            last,
            offset,
            alias,
            spilled,
        )

    def _task(self, index: int) -> Task:
        read = self._read
        if read_task(read, index):
            read.expect("{")
            return NpuTask(tuple(read.until("}", self._operation)))
        inputs = self._refs()
        read.expect("->")
        outputs = self._refs()
        for name, value in ((b.name, b) for b in map(self._buffers.__getitem__, inputs)):
            if name not in self._names.values:
                self._names.define(Value(name, value.dtype, value.shape, value.quantization))
        read.expect("{")
        nodes = tuple(read.until("}", lambda: read_host_node(read, self._names)))
        return HostTask(nodes, inputs, outputs)

    def _operation(self) -> Operation:
        read = self._read
        pes, split, exchanged = read_place(read)
        (out,) = self._known((self._ref(),))
        read.expect("=")
        opcode = read_opcode(read)
        sources = self._refs()
        fields: dict[str, Any] = {}
        while not any(map(read.sees, (";", "constants", "tiles"))):
            read_field(read, fields)
        staging: dict[str, Any] = {}
        if read.has("constants"):
            (staging["constants"],) = self._known((self._ref(),))
            read.expect("slices")
            staging["slices"] = read.integer()
        if read.has("tiles"):
            staging["tiles"] = read.integer()
            read.expect("axis")
            staging["axis"] = read.integer()
            read.expect("scratch")
            staging["scratch"] = self._refs()
        name, origins = read.origin()
        read.comment()
        inputs = tuple(self._buffers[index].name for index in sources)
        node = NpuNode(name, opcode, inputs, self._buffers[out].name, origins, **fields)
        return Operation(node, pes, split, exchanged, out, sources, **staging)
