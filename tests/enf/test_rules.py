"""Each rule of the verifier refuses what it is for, and says what it found."""

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from furiosa.common.errors import InvalidProgram
from furiosa.common.tensor import DType, Quantization
from furiosa.enf import (
    NONE,
    HostSection,
    NpuSection,
    Opcode,
    Port,
    Program,
    Window,
)
from furiosa.enf.limits import DEFAULT_LIMITS, Limits
from furiosa.enf.verify import RULES, verify
from support.programs import Draft, a_program
from support.random_programs import random_program

Change = Callable[[Program], Program]
QUANTIZE, CONV, DEQUANTIZE = 0, 1, 2  # the instructions of a_program()


def instruction(index: int, **changes: Any) -> Change:
    def change(p: Program) -> Program:
        changed = replace(p.instructions[index], **changes)
        parts = (*p.instructions[:index], changed, *p.instructions[index + 1 :])
        return replace(p, instructions=parts)

    return change


def window(**changes: Any) -> Change:
    def change(p: Program) -> Program:
        return instruction(CONV, window=replace(p.instructions[CONV].window, **changes))(p)

    return change


def buffer(index: int, **changes: Any) -> Change:
    def change(p: Program) -> Program:
        changed = replace(p.buffers[index], **changes)
        return replace(p, buffers=(*p.buffers[:index], changed, *p.buffers[index + 1 :]))

    return change


def constant(index: int, values: Any, dtype: str) -> Change:
    def change(p: Program) -> Program:
        array = np.array(values, dtype)
        return replace(p, constants=(*p.constants[:index], array, *p.constants[index + 1 :]))

    return change


def a_gather(*indices: int) -> Change:
    draft = Draft()
    x, out = draft.input(DType.INT8, (1, 3)), draft.buffer(DType.INT8, (1, len(indices)))
    parameters = draft.constant(indices, DType.INT32)
    draft.emit(Opcode.GATHER, out, x, axis=1, parameters=parameters)
    draft.output(out)
    return lambda _: draft.finish()


def port(**changes: Any) -> Change:
    return lambda p: replace(p, inputs=(replace(p.inputs[0], **changes),))


def program(**changes: Any) -> Change:
    return lambda p: replace(p, **changes)


def host(**changes: Any) -> Change:
    """Of a_program(host=True), whose last section it is."""

    def change(p: Program) -> Program:
        assert isinstance(p.sections[-1], HostSection)
        return replace(p, sections=(*p.sections[:-1], replace(p.sections[-1], **changes)))

    return change


WEIGHTS, BIAS, MULTIPLIER = 1, 2, 3  # the constants of a_program()
X, Q, Y, OUT = range(4)  # its buffers

REFUSALS: list[tuple[str, Change, str]] = [
    ("target-is-known", program(target="renegade"), "target 'renegade' is not one of warboy, "),
    ("counts-are-bounded", program(batch=0), "batch is 0"),
    ("counts-are-bounded", program(batch=2**31 + 1), "there are 2147483649 inferences in a batch"),
    ("counts-are-bounded", program(outputs=()), "there are no outputs"),
    ("counts-are-bounded", program(provenance=("a",)), "1 entries of provenance for 3"),
    ("names-are-bounded", program(name="n" * 1025), "the program's name has 1025 bytes"),
    ("names-are-bounded", program(compiler_version="\ud800"), "compiler version is not Unicode"),
    ("names-are-bounded", buffer(Q, name="ü" * 513), "the name of buffer 1 has 1026 bytes"),
    ("names-are-bounded", port(name="n" * 2000), "the name of input 0 has 2000 bytes"),
    (
        "names-are-bounded",
        program(provenance=("a", "b" * 16385, "c")),
        "the provenance of instruction 1 has 16385 bytes",
    ),
    ("names-are-bounded", program(source_sha256=bytes(31)), "the source hash has 31 bytes"),
    ("shapes-are-bounded", buffer(Q, shape=(1,) * 9), "buffer 1 has rank 9"),
    ("shapes-are-bounded", buffer(Q, shape=(1, 0, 8, 8)), "buffer 1 has shape [1, 0, 8, 8]"),
    ("shapes-are-bounded", buffer(Q, shape=(2**31 + 1,)), "buffer 1 has shape [2147483649]"),
    ("shapes-are-bounded", buffer(Q, shape=(2**30, 2)), "buffer 1 has 2147483648 bytes"),
    ("shapes-are-bounded", constant(BIAS, [], "int32"), "constant 2 has shape [0]"),
    ("constants-have-a-used-type", constant(BIAS, [1], "int64"), "constant 2 is int64"),
    ("buffers-fit-their-space", program(sram_bytes=2**25 + 1), "sram_bytes is 33554433"),
    ("buffers-fit-their-space", program(dram_bytes=2**34 + 1), "dram_bytes is 17179869185"),
    ("buffers-fit-their-space", program(sram_bytes=64), "ends at 192 of sram, which has 64"),
    ("buffers-fit-their-space", buffer(Y, offset=200), "starts at 200, no multiple of 64"),
    ("buffers-fit-their-space", buffer(Y, offset=-64), "starts at -64, no multiple of 64"),
    ("ports-are-sound", port(buffer=9), "input 0 is buffer 9 of 4"),
    ("ports-are-sound", port(name=""), "input 0 ('') has no name"),
    ("ports-are-sound", program(batch=3), "has 1 rows, no multiple of the batch of 3"),
    (
        "ports-are-sound",
        port(quantization=Quantization(0.5, 0)),
        "is float32 and has the zero point 0",
    ),
    ("ports-are-sound", program(outputs=(Port("y", OUT),) * 2), "2 outputs are called 'y'"),
    ("ports-are-sound", program(outputs=(Port("y", X),)), "buffer 0 serves 2 inputs and outputs"),
    (
        "sections-cover-the-instructions",
        program(sections=(NpuSection(0, 2),)),
        "the sections cover 2 of 3 instructions",
    ),
    (
        "sections-cover-the-instructions",
        program(sections=(NpuSection(0, 2), NpuSection(1, 2))),
        "section 1 has 2 instructions from 1 on, expected at least one from 2 on",
    ),
    (
        "sections-cover-the-instructions",
        program(sections=(NpuSection(0, 0), NpuSection(0, 3))),
        "section 0 has 0 instructions",
    ),
    ("operands-are-present", instruction(CONV, bias=NONE), "instruction 1 (CONV2D) has no bias"),
    ("operands-are-present", instruction(CONV, source1=0), "(CONV2D) takes no source1"),
    ("operands-are-present", instruction(QUANTIZE, zero0=1), "does not use zero0, which is 1"),
    (
        "operands-are-present",
        instruction(DEQUANTIZE, window=Window((3, 3))),
        "instruction 2 (DEQUANTIZE) does not use window",
    ),
    ("operands-exist", instruction(CONV, source0=4), "source0 is buffer 4 of 4"),
    ("operands-exist", instruction(CONV, out=NONE), "out is buffer 4294967295 of 4"),
    ("operands-exist", instruction(CONV, weights=-1), "weights is constant -1 of 4"),
    ("pes-are-of-the-target", instruction(CONV, pes=0), "runs on the PEs 0b0"),
    ("pes-are-of-the-target", instruction(CONV, pes=4), "runs on the PEs 0b100, warboy-2pe has"),
    ("pes-are-of-the-target", program(target="warboy"), "PEs 0b11, warboy has 0b1"),
    ("windows-are-sound", window(kernel=(3, 0)), "kernel, strides and dilations are (3, 0, 1, 1"),
    ("windows-are-sound", window(strides=(0, 1)), "each must be 1 to 65535"),
    ("windows-are-sound", window(dilations=(1, 65536)), "each must be 1 to 65535"),
    ("windows-are-sound", window(pads=(-1, 1, 1, 1)), "pads are (-1, 1, 1, 1)"),
    ("windows-are-sound", window(group=0), "group is 0"),
    (
        "types-and-shapes-agree",
        buffer(Y, dtype=DType.BOOL),
        "the result is bool, not int8 or uint8",
    ),
    ("types-and-shapes-agree", window(pads=(1, 1, 0, 1)), "axis 2 of the result is 8, the window"),
    ("types-and-shapes-agree", window(kernel=(11, 3)), "weights is int8 [4, 3, 3, 3], expected"),
    ("types-and-shapes-agree", window(group=2), "2 groups do not divide 3 and 4 channels"),
    (
        "types-and-shapes-agree",
        instruction(CONV, opcode=Opcode.DEPTHWISE_CONV2D),
        "there are 1 groups for 3 channels",
    ),
    (
        "types-and-shapes-agree",
        constant(WEIGHTS, np.zeros((4, 3, 3, 3)), "uint8"),
        "weights is uint8 [4, 3, 3, 3], expected int8",
    ),
    ("types-and-shapes-agree", constant(BIAS, [1, 2, 3], "int32"), "bias is int32 [3], expected"),
    ("types-and-shapes-agree", constant(MULTIPLIER, [1, 2, 3, 4], "int32"), "multiplier is int32"),
    ("types-and-shapes-agree", constant(0, [1, 1], "float32"), "multiplier is float32 [2]"),
    ("types-and-shapes-agree", buffer(X, dtype=DType.INT32), "real values are int32, not float32"),
    ("types-and-shapes-agree", buffer(OUT, shape=(4, 64)), "the shape changes from [1, 4, 8, 8]"),
    (
        "zero-points-and-clamps-are-in-range",
        instruction(CONV, zero0=-129),
        "zero0 is -129, outside -128..127",
    ),
    (
        "zero-points-and-clamps-are-in-range",
        instruction(QUANTIZE, zero_out=128),
        "zero_out is 128, outside -128..127",
    ),
    (
        "zero-points-and-clamps-are-in-range",
        instruction(CONV, low=5, high=4),
        "clamps to 5..4, the type holds -128..127",
    ),
    ("zero-points-and-clamps-are-in-range", instruction(CONV, high=128), "clamps to -20..128"),
    ("multipliers-are-in-range", constant(MULTIPLIER, [1, np.nan, 1, 1], "float32"), "is nan"),
    ("multipliers-are-in-range", constant(MULTIPLIER, [1, 1, np.inf, 1], "float32"), "is inf"),
    ("multipliers-are-in-range", constant(MULTIPLIER, [1, 1, 1, -1], "float32"), "is -1.0"),
    ("multipliers-are-in-range", constant(0, [0], "float32"), "(QUANTIZE): a multiplier is 0.0"),
    ("indices-are-inside", a_gather(0, 3), "instruction 0 (GATHER): index 3 is outside 0..2"),
    ("indices-are-inside", a_gather(2, -1, 0), "(GATHER): index -1 is outside 0..2"),
    (
        "accumulators-fit-int32",
        constant(BIAS, [0, -(2**31) + 255 * 128 * 27, 0, 0], "int32"),
        "27 products and a bias of 2146602368",
    ),
    (
        "buffers-are-written-once-before-reading",
        lambda p: replace(
            p, instructions=(p.instructions[1], p.instructions[0], p.instructions[2])
        ),
        "instruction 0 (CONV2D) reads buffer 1 before anything wrote it",
    ),
    (
        "buffers-are-written-once-before-reading",
        lambda p: replace(
            p,
            instructions=(p.instructions[0], *p.instructions),
            provenance=("a", "b", "c", "d"),
            sections=(NpuSection(0, 4),),
        ),
        "instruction 1 (QUANTIZE) writes buffer 1 a second time",
    ),
    (
        "buffers-are-written-once-before-reading",
        lambda p: replace(p, buffers=(*p.buffers, replace(p.buffers[OUT], name="spare"))),
        "buffer 4 ('spare') is never written",
    ),
    (
        "live-buffers-are-disjoint",
        buffer(Y, offset=128),
        "buffers 1 (0..192) and 2 (128..384) of sram overlap while both are alive",
    ),
]

HOST_REFUSALS: list[tuple[Change, str]] = [
    (host(graph=99), "section 1 runs constant 99 of 5"),
    (host(graph=2), "section 1 runs a constant of int32 [4]"),
    (host(inputs=(77,)), "section 1 uses buffer 77 of 5"),
    (host(outputs=()), "section 1 has no outputs"),
    (host(inputs=(3, 3)), "section 1 names a buffer twice: [3, 3]"),
]


@pytest.mark.parametrize(("rule", "change", "text"), REFUSALS)
def test_a_rule_refuses_and_says_what_it_found(rule: str, change: Change, text: str) -> None:
    with pytest.raises(InvalidProgram, match=re.escape(text)) as caught:
        verify(change(a_program()))
    assert caught.value.rule == rule


@pytest.mark.parametrize(("change", "text"), HOST_REFUSALS)
def test_host_sections_refer_to_what_exists(change: Change, text: str) -> None:
    with pytest.raises(InvalidProgram, match=re.escape(text)) as caught:
        verify(change(a_program(host=True)))
    assert caught.value.rule == "host-sections-are-sound"


def test_every_rule_has_a_refusal() -> None:
    tried = {rule for rule, _, _ in REFUSALS} | {"host-sections-are-sound"}
    assert tried == {rule.__name__.replace("_", "-") for rule in RULES}


@pytest.mark.parametrize(
    ("field", "found"),
    [("instructions", 3), ("buffers", 4), ("constants", 4), ("sections", 1), ("ports", 1)],
)
def test_counts_have_limits(field: str, found: int) -> None:
    verify(a_program(), replace(DEFAULT_LIMITS, **{field: found}))
    with pytest.raises(InvalidProgram, match=f"there are {found} .*, the limit is {found - 1}"):
        verify(a_program(), replace(DEFAULT_LIMITS, **{field: found - 1}))


def test_programs_that_keep_the_rules_pass() -> None:
    verify(a_program())
    verify(a_program(batch=5, target="warboy", host=True))
    for seed in range(30):
        verify(random_program(np.random.default_rng(seed)))


def a_draft_with(opcode: Opcode, dtypes: tuple[DType, DType], **fields: Any) -> Draft:
    draft = Draft()
    source = draft.input(dtypes[0], (1, 4, 6, 6))
    out = draft.buffer(dtypes[1], fields.pop("shape", (1, 4, 6, 6)))
    draft.emit(opcode, out, source, **fields)
    draft.output(out)
    return draft


I8, U8, F32 = DType.INT8, DType.UINT8, DType.FLOAT32


@pytest.mark.parametrize(
    ("draft", "text"),
    [
        (a_draft_with(Opcode.RESHAPE, (I8, U8)), "the type changes from int8 to uint8"),
        (
            a_draft_with(Opcode.RESHAPE, (I8, I8), shape=(145,)),
            "[1, 4, 6, 6] and [145] differ in size",
        ),
        (a_draft_with(Opcode.MAX_POOL2D, (F32, F32)), "the source is float32, not int8 or uint8"),
        (a_draft_with(Opcode.MAX_POOL2D, (I8, U8)), "the type changes from int8 to uint8"),
        (a_draft_with(Opcode.MAX_POOL2D, (I8, I8), shape=(4, 36)), "must have rank 4"),
        (a_draft_with(Opcode.MAX_POOL2D, (I8, I8), shape=(2, 4, 6, 6)), "1 images become 2"),
        (a_draft_with(Opcode.MAX_POOL2D, (I8, I8), shape=(1, 3, 6, 6)), "4 channels become 3"),
        (a_draft_with(Opcode.MAX_POOL2D, (I8, I8), window=Window(group=2)), "group is 2"),
        (
            a_draft_with(Opcode.MAX_POOL2D, (I8, I8), window=Window((2, 2), pads=(0, 2, 1, 0))),
            "pads (0, 2, 1, 0) are not less than the kernel (2, 2)",
        ),
        (
            a_draft_with(Opcode.MAX_POOL2D, (I8, I8), window=Window((9, 1))),
            "axis 2 of the result is 6, the window gives 0",
        ),
    ],
)
def test_shapes_and_types_of_the_simple_instructions(draft: Draft, text: str) -> None:
    with pytest.raises(InvalidProgram, match=re.escape(text)) as caught:
        verify(draft.finish())
    assert caught.value.rule == "types-and-shapes-agree"


def an_addition(multiplier: list[float], shape: tuple[int, ...] = (1, 2)) -> Program:
    draft = Draft()
    a, b = draft.input(I8, (1, 2)), draft.input(U8, (1, 2))
    out = draft.buffer(I8, shape)
    scale = draft.constant(multiplier, DType.FLOAT32)
    draft.emit(Opcode.ADD, out, a, source1=b, multiplier=scale, low=-128, high=127)
    draft.output(out)
    return draft.finish()


def test_terms_of_a_sum_stay_finite() -> None:
    verify(an_addition([-1.0, 2.0**100]))
    for factor in (2.0**101, -(2.0**101), np.nan):
        with pytest.raises(InvalidProgram, match="a multiplier is"):
            verify(an_addition([1.0, factor]))


def test_port_quantisation_is_a_positive_float32_and_a_value_of_the_type() -> None:
    program = an_addition([1.0, 1.0])

    def with_quantization(scale: float, zero: int) -> Program:
        port = replace(program.inputs[0], quantization=Quantization(scale, zero))
        return replace(program, inputs=(port, program.inputs[1]))

    verify(with_quantization(0.25, -128))
    for scale in (0.1, 0.0, -1.0, float("inf"), float("nan"), 1e300):
        with pytest.raises(InvalidProgram, match="not a positive float32"):
            verify(with_quantization(scale, 0))
    with pytest.raises(InvalidProgram, match="has the zero point 128"):
        verify(with_quantization(0.25, 128))


def test_limits_are_the_card() -> None:
    assert (Limits().sram_bytes, Limits().dram_bytes) == (32 * 2**20, 16 * 2**30)
