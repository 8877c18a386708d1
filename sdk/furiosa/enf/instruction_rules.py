"""Rules on single instructions: operands, types, shapes, windows, arithmetic.

What each opcode takes is in two tables; what must hold between its operands is in `instruction_checks`.
"""

import math
from collections.abc import Iterator
from typing import Final

import numpy as np

from furiosa.common.tensor import DType
from furiosa.enf.instruction_checks import CHECKS
from furiosa.enf.isa import NONE, Instruction, Opcode, Window
from furiosa.enf.limits import Limits
from furiosa.enf.program import TARGETS, Program
from furiosa.enf.table_rules import RANGES

_CONSTANTS: Final = ("weights", "bias", "multiplier", "parameters")
_CONV_OPERANDS: Final = frozenset({"source0", "weights", "bias", "multiplier"})
OPERANDS: Final = {
    Opcode.CONV2D: _CONV_OPERANDS,
    Opcode.DEPTHWISE_CONV2D: _CONV_OPERANDS,
    Opcode.ADD: frozenset({"source0", "source1", "multiplier"}),
    Opcode.MAX_POOL2D: frozenset({"source0"}),
    Opcode.RESHAPE: frozenset({"source0"}),
    Opcode.QUANTIZE: frozenset({"source0", "multiplier"}),
    Opcode.DEQUANTIZE: frozenset({"source0", "multiplier"}),
    Opcode.LOAD: frozenset({"weights"}),
    Opcode.MULTIPLY: frozenset({"source0", "source1", "multiplier"}),
    Opcode.TABLE: frozenset({"source0", "weights"}),
    Opcode.CONCAT: frozenset({"source0", "source1"}),
    Opcode.TRANSPOSE: frozenset({"source0", "parameters"}),
    Opcode.SLICE: frozenset({"source0", "parameters"}),
    Opcode.PAD: frozenset({"source0", "parameters"}),
    Opcode.EXPAND: frozenset({"source0"}),
    Opcode.GATHER: frozenset({"source0", "parameters"}),
    Opcode.RESIZE_LINEAR: frozenset({"source0", "multiplier", "parameters"}),
    Opcode.AVERAGE_POOL2D: frozenset({"source0", "multiplier"}),
    Opcode.REDUCE_SUM: frozenset({"source0", "multiplier", "parameters"}),
    Opcode.REDUCE_L2: frozenset({"source0", "multiplier", "parameters"}),
    Opcode.L2_NORMALIZE: frozenset({"source0", "multiplier", "parameters"}),
    Opcode.SOFTMAX: frozenset({"source0", "weights", "multiplier"}),
    Opcode.MATMUL: frozenset({"source0", "source1", "multiplier"}),
}
_STORED: Final = frozenset({"zero_out", "low", "high"})
_RESCALED: Final = _STORED | {"zero0"}
_TWO_SOURCES: Final = _RESCALED | {"zero1"}
FIELDS: Final = {
    Opcode.CONV2D: _TWO_SOURCES | {"window"},
    Opcode.DEPTHWISE_CONV2D: _TWO_SOURCES | {"window"},
    Opcode.ADD: _TWO_SOURCES,
    Opcode.MAX_POOL2D: frozenset({"low", "high", "window"}),
    Opcode.RESHAPE: frozenset[str](),
    Opcode.QUANTIZE: _STORED,
    Opcode.DEQUANTIZE: frozenset({"zero0"}),
    Opcode.LOAD: frozenset[str](),
    Opcode.MULTIPLY: _TWO_SOURCES,
    Opcode.TABLE: frozenset({"axis"}),
    Opcode.CONCAT: frozenset({"axis"}),
    Opcode.TRANSPOSE: frozenset[str](),
    Opcode.SLICE: frozenset[str](),
    Opcode.PAD: frozenset({"zero0"}),
    Opcode.EXPAND: frozenset[str](),
    Opcode.GATHER: frozenset({"axis"}),
    Opcode.RESIZE_LINEAR: _RESCALED,
    Opcode.AVERAGE_POOL2D: _RESCALED | {"window"},
    Opcode.REDUCE_SUM: _RESCALED,
    Opcode.REDUCE_L2: _RESCALED,
    Opcode.L2_NORMALIZE: _RESCALED,
    Opcode.SOFTMAX: _STORED | {"axis"},
    Opcode.MATMUL: _TWO_SOURCES,
}
_UNUSED: Final = {
    "zero0": 0,
    "zero1": 0,
    "zero_out": 0,
    "low": 0,
    "high": 0,
    "axis": 0,
    "window": Window(),
}
_CONVOLUTIONS: Final = frozenset({Opcode.CONV2D, Opcode.DEPTHWISE_CONV2D})
_U16: Final = 0xFFFF
# of either sign; no term may be infinite, lest their sum or product be not a number
_LARGEST_TERMS: Final = {Opcode.ADD: 2.0**100, Opcode.MULTIPLY: 2.0**60}
_DIVISIONS: Final = frozenset({Opcode.QUANTIZE, Opcode.SOFTMAX})


def operands_are_present(program: Program, limits: Limits) -> Iterator[str]:
    for where, i in _each(program):
        for field in ("source0", "source1", *_CONSTANTS):
            wanted, given = field in OPERANDS[i.opcode], getattr(i, field) != NONE
            if wanted != given:
                yield f"{where} {'has no' if wanted else 'takes no'} {field}"
        for field, unused in _UNUSED.items():
            if field not in FIELDS[i.opcode] and getattr(i, field) != unused:
                yield f"{where} does not use {field}, which is {getattr(i, field)}"


def operands_exist(program: Program, limits: Limits) -> Iterator[str]:
    for where, i in _each(program):
        for field in ("out", "source0", "source1"):
            value = getattr(i, field)
            if not (0 <= value < len(program.buffers) or (value == NONE and field != "out")):
                yield f"{where}: {field} is buffer {value} of {len(program.buffers)}"
        for field in _CONSTANTS:
            value = getattr(i, field)
            if not (0 <= value < len(program.constants) or value == NONE):
                yield f"{where}: {field} is constant {value} of {len(program.constants)}"


def pes_are_of_the_target(program: Program, limits: Limits) -> Iterator[str]:
    every = (1 << TARGETS[program.target]) - 1
    for where, i in _each(program):
        if not 0 < i.pes <= every:
            yield f"{where} runs on the PEs {i.pes:#b}, {program.target} has {every:#b}"


def windows_are_sound(program: Program, limits: Limits) -> Iterator[str]:
    for where, i in _each(program):
        w = i.window
        sizes = (*w.kernel, *w.strides, *w.dilations)
        if not all(1 <= size <= _U16 for size in sizes):
            yield f"{where}: kernel, strides and dilations are {sizes}, each must be 1 to {_U16}"
        if not all(0 <= pad <= _U16 for pad in w.pads):
            yield f"{where}: pads are {w.pads}, each must be 0 to {_U16}"
        if not 1 <= w.group < NONE:
            yield f"{where}: group is {w.group}"


def types_and_shapes_agree(program: Program, limits: Limits) -> Iterator[str]:
    for where, i in _each(program):
        for message in CHECKS[i.opcode](i, program):
            yield f"{where}: {message}"


def zero_points_and_clamps_are_in_range(program: Program, limits: Limits) -> Iterator[str]:
    for where, i in _each(program):
        used = FIELDS[i.opcode]
        points = (("zero0", i.source0), ("zero1", i.source1), ("zero_out", i.out))
        for field, buffer in points:
            if field in used:
                of_weights = field == "zero1" and i.opcode in _CONVOLUTIONS
                dtype = DType.INT8 if of_weights else program.buffers[buffer].dtype
                low, high = RANGES[dtype]
                if not low <= getattr(i, field) <= high:
                    yield f"{where}: {field} is {getattr(i, field)}, outside {low}..{high}"
        if "low" in used:
            low, high = RANGES[program.buffers[i.out].dtype]
            if not low <= i.low <= i.high <= high:
                yield f"{where} clamps to {i.low}..{i.high}, the type holds {low}..{high}"


def multipliers_are_in_range(program: Program, limits: Limits) -> Iterator[str]:
    seen: set[tuple[int, Opcode]] = set()  # a large constant may be named by every instruction
    for where, i in _each(program):
        if i.multiplier == NONE or (i.multiplier, i.opcode) in seen:
            continue
        seen.add((i.multiplier, i.opcode))
        values = program.constants[i.multiplier].astype(np.float32, copy=False)
        if i.opcode in _LARGEST_TERMS:
            wrong = ~(np.abs(values) <= _LARGEST_TERMS[i.opcode])
        else:
            wrong = ~(np.isfinite(values) & (values >= 0))
        if i.opcode in _DIVISIONS:
            wrong |= values == 0
        if i.opcode is Opcode.RESIZE_LINEAR:  # all but the last are weights
            wrong[:-1] |= values[:-1] > 1
        if wrong.any():
            yield f"{where}: a multiplier is {values[wrong][0]}"


def indices_are_inside(program: Program, limits: Limits) -> Iterator[str]:
    found: dict[tuple[int, int, int], tuple[int, int]] = {}  # as with multipliers
    for where, i in _each(program):
        for what, first, end, size in _indices(i, program):
            part = (i.parameters, first, end)
            if part not in found:
                indices = program.constants[i.parameters][first:end]
                found[part] = int(indices.min()), int(indices.max())
            for index in found[part]:
                if not 0 <= index < size:
                    yield f"{where}: {what} {index} is outside 0..{size - 1}"


def _indices(i: Instruction, program: Program) -> Iterator[tuple[str, int, int, int]]:
    """Parts of `parameters`: what they count, from where to where they are, and how many there are."""
    if i.opcode is Opcode.GATHER:
        out, source = program.buffers[i.out].shape, program.buffers[i.source0].shape
        yield "index", 0, out[i.axis], source[i.axis]
    elif i.opcode is Opcode.RESIZE_LINEAR:
        (height, width), source = program.buffers[i.out].shape[2:], program.buffers[i.source0].shape
        yield "row", 0, 2 * height, source[2]
        yield "column", 2 * height, 2 * (height + width), source[3]


def accumulators_fit_int32(program: Program, limits: Limits) -> Iterator[str]:
    largest: dict[int, int] = {}
    for where, i in _each(program):
        if i.opcode not in _CONVOLUTIONS:
            continue
        if i.bias not in largest:
            bias = program.constants[i.bias]
            largest[i.bias] = max(int(bias.max()), -int(bias.min()))
        taps = math.prod(program.constants[i.weights].shape[1:])
        term = 255 * max(128 + i.zero1, 127 - i.zero1)  # |x - zero0| * |w - zero1|
        if taps * term + largest[i.bias] >= 1 << 31:
            yield f"{where}: {taps} products and a bias of {largest[i.bias]} may exceed an int32"


def _each(program: Program) -> Iterator[tuple[str, Instruction]]:
    for index, instruction in enumerate(program.instructions):
        yield f"instruction {index} ({instruction.opcode.name})", instruction
