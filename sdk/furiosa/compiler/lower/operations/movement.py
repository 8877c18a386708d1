"""Operators that move elements."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

import numpy as np

from furiosa.compiler.dfg.ir import Node
from furiosa.compiler.dfg.operators.movement import MOVES, split_parts
from furiosa.compiler.dfg.operators.moves import (
    Border,
    Crop,
    Move,
    Moves,
    Permute,
    Reshape,
    Spread,
    Take,
)
from furiosa.compiler.dfg.operators.resize import nearest
from furiosa.compiler.lower.operations.emit import Emit, Lowered
from furiosa.compiler.value import Array
from furiosa.enf.isa import Opcode


def _integers(held: Any) -> Array:
    return np.array(held, np.int32)


def _operation(move: Move) -> tuple[Opcode, dict[str, Any]]:
    match move:
        case Reshape():
            return Opcode.RESHAPE, {}
        case Permute(axes):
            return Opcode.TRANSPOSE, {"parameters": _integers(axes)}
        case Crop(start, step):
            return Opcode.SLICE, {"parameters": _integers((start, step))}
        case Border(before, point):
            return Opcode.PAD, {"parameters": _integers(before), "zero0": point}
        case Spread():
            return Opcode.EXPAND, {}
        case Take(axis, indices):
            return Opcode.GATHER, {"parameters": _integers(indices), "axis": axis}


def chain(emit: Emit, node: Node, source: str, result: str, moves: Moves) -> None:
    """The moves one after the other, the last one making `result`; those that change nothing are left out."""
    shape = emit.value(source).shape
    kept: list[Move] = []
    for move in moves:
        if move.shape != shape or not isinstance(move, Border | Crop | Reshape | Spread):
            kept.append(move)
        shape = move.shape
    moves = tuple(kept) or (Reshape(shape),)
    for index, move in enumerate(moves):
        target = result
        if index < len(moves) - 1:
            name = emit.graph.fresh(f"{result}/{type(move).__name__.lower()}")
            like = replace(emit.value(result), name=name, shape=move.shape, data=None)
            target = emit.graph.add(like)
        opcode, fields = _operation(move)
        emit.add(node, opcode, (source,), target, **fields)
        source = target


def moved(emit: Emit, node: Node) -> None:
    moves = MOVES[node.op](node, emit.graph)
    assert not isinstance(moves, str), moves  # its condition
    chain(emit, node, node.inputs[0], node.outputs[0], moves)


def resize(emit: Emit, node: Node) -> None:
    moves = nearest(node, emit.graph)
    assert not isinstance(moves, str), moves  # its condition
    chain(emit, node, node.inputs[0], node.outputs[0], moves)


def split(emit: Emit, node: Node) -> None:
    for name, part in zip(node.outputs, split_parts(node, emit.graph), strict=True):
        chain(emit, node, node.inputs[0], name, (part,))


def concat(emit: Emit, node: Node) -> None:
    """Neighbours in pairs, round by round, so that no element is moved more often than need be."""
    result = emit.value(node.outputs[0])
    given = node.attributes["axis"]
    assert isinstance(given, int)
    axis = given % len(result.shape)
    parts = list(node.inputs)
    while len(parts) > 2:
        pairs = [parts[i : i + 2] for i in range(0, len(parts), 2)]
        parts = [_joined(emit, node, axis, pair) if len(pair) == 2 else pair[0] for pair in pairs]
    if len(parts) == 2:
        emit.add(node, Opcode.CONCAT, tuple(parts), result.name, axis=axis)
    else:
        emit.add(node, Opcode.RESHAPE, tuple(parts), result.name)


def _joined(emit: Emit, node: Node, axis: int, pair: list[str]) -> str:
    result = emit.value(node.outputs[0])
    wide = sum(emit.value(name).shape[axis] for name in pair)
    shape = (*result.shape[:axis], wide, *result.shape[axis + 1 :])
    name = emit.graph.fresh(f"{result.name}/part{len(emit.nodes)}")
    part = emit.graph.add(replace(result, name=name, shape=shape))
    emit.add(node, Opcode.CONCAT, tuple(pair), part, axis=axis)
    return part


OPERATIONS: Final[Mapping[str, Lowered]] = {
    "Concat": concat,
    "Resize": resize,
    "Split": split,
    **dict.fromkeys(MOVES, moved),
}
