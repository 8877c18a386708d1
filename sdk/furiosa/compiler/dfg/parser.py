"""Reads the text form of a dfg. Grammar: docs/compiler/dfg.md."""

import re
from typing import Final

from furiosa.compiler.dfg.ir import Dfg, Node, Place
from furiosa.compiler.reader import Names, Reader, read_graph

OPERATOR: Final = re.compile(r"[A-Za-z][A-Za-z0-9_]*", re.ASCII)
_PLACE: Final = re.compile(r"npu|host")


def parse_dfg(source: str) -> Dfg:
    """The graph whose text this is; its rules are not checked. Raises: InvalidFormat."""
    read = Reader(source)
    names = Names(read)
    info = read.heading("dfg")
    inputs, outputs, nodes = read_graph(read, names, lambda _: _node(read, names))
    return Dfg(info, inputs, outputs, nodes, names.values)


def _node(read: Reader, names: Names) -> Node:
    outputs = read.joined(names.result, ",")
    read.expect("=")
    op = read.match(OPERATOR, "an operator")
    inputs = names.known(read.names())
    attributes = read.attributes()
    place = Place(read.match(_PLACE, "npu or host")) if read.has("@") else Place.ANY
    name, sources = read.origin()
    return Node(name, op, inputs, outputs, attributes, sources, place)
