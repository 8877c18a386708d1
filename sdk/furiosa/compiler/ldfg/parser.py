"""Reads the text form of an ldfg. Grammar: docs/compiler/ldfg.md."""

import re
from dataclasses import replace
from typing import Any, Final

from furiosa.compiler.dfg.parser import OPERATOR
from furiosa.compiler.ldfg.ir import (
    CONSTANTS,
    PIXEL,
    HostNode,
    HostSection,
    Ldfg,
    NpuNode,
    NpuSection,
    Section,
)
from furiosa.compiler.reader import Names, Reader, read_graph
from furiosa.enf.isa import Opcode, Window

_OPCODE: Final = re.compile("|".join(sorted((o.name.lower() for o in Opcode), reverse=True)))
FIELDS: Final = ("zero0", "zero1", "zero_out", "low", "high", "axis")
_WINDOW: Final = ("kernel", "strides", "pads", "dilations")


def parse_ldfg(source: str) -> Ldfg:
    """The graph whose text this is; its rules are not checked. Raises: InvalidFormat."""
    read = Reader(source)
    names = Names(read)
    info = read.heading("ldfg")
    inputs, outputs, sections = read_graph(read, names, lambda n: _section(read, names, n))
    return Ldfg(info, inputs, outputs, tuple(sections), names.values)


def _section(read: Reader, names: Names, index: int) -> Section:
    read.expect("section")
    if read.integer() != index:
        read.fail(f"section {index} before this")
    on_npu = read.has("npu")
    if not on_npu:
        read.expect("host")
    read.expect("{")
    if on_npu:
        return NpuSection(tuple(read.until("}", lambda: read_npu_node(read, names))))
    return HostSection(tuple(read.until("}", lambda: read_host_node(read, names))))


def read_npu_node(read: Reader, names: Names) -> NpuNode:
    output = names.define(read.declared())
    read.expect("=")
    opcode = read_opcode(read)
    inputs = names.known(read.names())
    fields: dict[str, Any] = {}
    while not read.sees(";"):
        read_field(read, fields)
    name, sources = read.origin()
    return NpuNode(name, opcode, inputs, output, sources, **fields)


def read_host_node(read: Reader, names: Names) -> HostNode:
    outputs = read.joined(names.result, ",")
    read.expect("=")
    op = read.match(OPERATOR, "an operator")
    inputs = names.known(read.names())
    attributes = read.attributes()
    name, sources = read.origin()
    return HostNode(name, op, inputs, outputs, attributes, sources)


def read_opcode(read: Reader) -> Opcode:
    return Opcode[read.match(_OPCODE, "an operation").upper()]


def read_field(read: Reader, fields: dict[str, Any]) -> None:
    """One ` key=value` of an NPU operation, into `fields` of an NpuNode."""
    key = read.key()
    read.expect("=")
    if key in FIELDS:
        fields[key] = read.integer()
    elif key in CONSTANTS:
        fields[key] = read.typed_array("[", "x", "]")
    else:
        fields["window"] = read_window_field(read, key, fields.get("window", PIXEL))


def read_window_field(read: Reader, key: str, window: Window) -> Window:
    """The value of `key` in `window`."""
    if key == "group":
        return replace(window, group=read.integer())
    if key not in _WINDOW:
        read.fail(f"a field of the operation instead of {key!r} before this")
    sizes = read.joined(read.integer, "x")
    if len(sizes) != len(getattr(PIXEL, key)):
        read.fail(f"{len(getattr(PIXEL, key))} sizes before this")
    return replace(window, **{key: sizes})  # type: ignore[arg-type]  # as many as the field has
