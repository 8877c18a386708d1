"""Elements go to other places, carried as they are."""

import math
from collections.abc import Mapping
from typing import Final

import numpy as np

from furiosa.enf import Instruction, Opcode
from furiosa.vnpu.npugraph.carriers import name
from furiosa.vnpu.npugraph.graph import Graph, Lowering

_SHORT: Final = 16  # elements: Gather copies shorter runs slower than two transpositions take


def _load(g: Graph, i: Instruction) -> None:
    g.made(i, "Identity", g.held(i.weights, "loaded", lambda data: g.carried(i.out, data)))


def _reshape(g: Graph, i: Instruction) -> None:
    g.made(i, "Reshape", name(i.source0), g.integers(g.shape(i.out), "shape"))


def _concat(g: Graph, i: Instruction) -> None:
    g.concatenated(i)


def _transpose(g: Graph, i: Instruction) -> None:
    g.made(i, "Transpose", name(i.source0), perm=g.parameters(i).tolist())


def _slice(g: Graph, i: Instruction) -> None:
    starts, steps = g.parameters(i)
    ends = starts + (np.array(g.shape(i.out)) - 1) * steps + 1
    bounds = [g.integers(part) for part in (starts, ends, range(len(starts)), steps)]
    g.made(i, "Slice", name(i.source0), *bounds)


def _pad(g: Graph, i: Instruction) -> None:
    before = g.parameters(i)
    after = np.array(g.shape(i.out)) - g.shape(i.source0) - before
    pads = g.integers([*before, *after], "pads")
    g.made(i, "Pad", name(i.source0), pads, g.point(i.source0, i.zero0))


def _expand(g: Graph, i: Instruction) -> None:
    g.made(i, "Expand", name(i.source0), g.integers(g.shape(i.out), "shape"))


def _gather(g: Graph, i: Instruction) -> None:
    shape = g.shape(i.source0)
    indices = g.held(i.parameters, "indices", lambda data: data.astype(np.int64))
    if math.prod(shape[i.axis + 1 :]) >= _SHORT:
        g.made(i, "Gather", name(i.source0), indices, axis=i.axis)
        return
    order = [i.axis, *(axis for axis in range(len(shape)) if axis != i.axis)]
    found = g.node("Gather", g.node("Transpose", name(i.source0), perm=order), indices, axis=0)
    g.made(i, "Transpose", found, perm=np.argsort(order).tolist())


LOWERINGS: Final[Mapping[Opcode, Lowering]] = {
    Opcode.LOAD: _load,
    Opcode.RESHAPE: _reshape,
    Opcode.CONCAT: _concat,
    Opcode.TRANSPOSE: _transpose,
    Opcode.SLICE: _slice,
    Opcode.PAD: _pad,
    Opcode.EXPAND: _expand,
    Opcode.GATHER: _gather,
}
