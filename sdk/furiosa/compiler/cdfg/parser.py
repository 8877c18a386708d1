"""Reads the text form of a cdfg. Grammar: docs/compiler/cdfg.md."""

import re
from typing import Final

from furiosa.compiler.cdfg.ir import Cdfg, HostTask, NpuTask, Operation, Split, Task
from furiosa.compiler.ldfg.parser import read_host_node, read_npu_node
from furiosa.compiler.reader import Names, Reader, read_graph
from furiosa.enf.program import TARGETS

MAX_PES: Final = 8
_TARGET: Final = re.compile("|".join(sorted(TARGETS, reverse=True)))


def parse_cdfg(source: str) -> Cdfg:
    """The graph whose text this is; its rules are not checked. Raises: InvalidFormat."""
    read = Reader(source)
    names = Names(read)
    info = read.heading("cdfg")
    target = read_target(read)
    inputs, outputs, tasks = read_graph(read, names, lambda n: _task(read, names, n))
    return Cdfg(info, target, TARGETS[target], inputs, outputs, tuple(tasks), names.values)


def read_target(read: Reader) -> str:
    read.expect("target")
    return read.match(_TARGET, f"one of {', '.join(TARGETS)}")


def read_task(read: Reader, index: int) -> bool:
    """`task 0 npu` or `task 0 host`; whether it is one of the NPU."""
    read.expect("task")
    if read.integer() != index:
        read.fail(f"task {index} before this")
    if read.has("npu"):
        return True
    read.expect("host")
    return False


def _task(read: Reader, names: Names, index: int) -> Task:
    on_npu = read_task(read, index)
    inputs = names.known(read.names())
    read.expect("->")
    outputs = read.names()  # defined by what follows
    read.expect("{")
    task: Task
    if on_npu:
        operations = tuple(read.until("}", lambda: _operation(read, names)))
        task = NpuTask(operations, inputs, outputs)
    else:
        nodes = tuple(read.until("}", lambda: read_host_node(read, names)))
        task = HostTask(nodes, inputs, outputs)
    names.known(outputs)
    return task


def _operation(read: Reader, names: Names) -> Operation:
    pes, split, exchanged = read_place(read)
    return Operation(read_npu_node(read, names), pes, split, exchanged)


def read_pe(read: Reader) -> int:
    pe = read.integer()
    if not 0 <= pe < MAX_PES:
        read.fail(f"a PE of 0 to {MAX_PES - 1} before this")
    return pe


def read_split(read: Reader) -> Split:
    for split in Split:
        if split is not Split.NONE and read.has(split.value):
            return split
    return Split.NONE


def read_place(read: Reader) -> tuple[int, Split, int]:
    """`pe0+1 rows exchanged 512:` as a mask, how it is split, and bytes."""
    read.expect_glued("pe")
    mask = 0
    for pe in read.joined(lambda: read_pe(read), "+"):
        mask |= 1 << pe
    split = read_split(read)
    exchanged = read.integer() if read.has("exchanged") else 0
    read.expect(":")
    return mask, split, exchanged
