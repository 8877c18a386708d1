"""Reads the text form of a dfg. Grammar: docs/compiler/dfg.md."""

import re
from typing import Final

from furiosa.compiler.dfg.ir import Dfg, Node, Place
from furiosa.compiler.reader import Names, Reader

OPERATOR: Final = re.compile(r"[A-Za-z][A-Za-z0-9_]*", re.ASCII)
_PLACE: Final = re.compile(r"npu|host")


def parse_dfg(source: str) -> Dfg:
    """The graph whose text this is; its rules are not checked. Raises: InvalidFormat."""
    read = Reader(source)
    names = Names(read)
    info = read.heading("dfg")
    read.expect("{")
    inputs: list[str] = []
    outputs: list[str] = []
    nodes: list[Node] = []
    while not read.has("}"):
        if read.has("input"):
            inputs.append(names.define(read.declared()))
        elif read.has("const"):
            names.define(read.constant())
        elif read.has("output"):
            outputs += names.known((read.name(),))
        else:
            nodes.append(_node(read, names))
    read.end()
    return Dfg(info, tuple(inputs), tuple(outputs), nodes, names.values)


def _node(read: Reader, names: Names) -> Node:
    outputs = read.joined(names.result, ",")
    read.expect("=")
    op = read.match(OPERATOR, "an operator")
    inputs = names.known(read.names())
    attributes = read.attributes()
    place = Place(read.match(_PLACE, "npu or host")) if read.has("@") else Place.ANY
    name, sources = read.origin()
    return Node(name, op, inputs, outputs, attributes, sources, place)
