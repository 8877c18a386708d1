"""Spans of traced programs: what each row of the further output stands for."""

import time

import numpy as np
import pytest

from furiosa.common.tensor import DType
from furiosa.enf import HostSection, NpuSection, Opcode, Program, Window, spans
from furiosa.enf.spans import Span, Step
from furiosa.vnpu import Engine
from support.programs import Draft, a_program, inputs_for

I8, F32 = DType.INT8, DType.FLOAT32


def a_heavy_and_a_light_one() -> Program:
    """RESHAPE of 64 bytes, a convolution of 64 million products, an addition of 65,536."""
    draft = Draft()
    x = draft.input(I8, (1, 64, 1, 1))
    small = draft.emit(Opcode.RESHAPE, draft.buffer(I8, (64,)), x)
    image = draft.input(I8, (1, 64, 32, 32))
    y = draft.emit(
        Opcode.CONV2D,
        draft.buffer(I8, (1, 64, 32, 32)),
        image,
        weights=draft.constant(np.ones((64, 64, 4, 4)), I8),
        bias=draft.constant(np.zeros(64), DType.INT32),
        multiplier=draft.constant(np.full(64, 0.001), F32),
        window=Window((4, 4), pads=(1, 1, 2, 2)),
        low=-128,
        high=127,
    )
    ones = draft.constant([1.0, 1.0], F32)
    out = draft.buffer(I8, (1, 64, 32, 32))
    draft.emit(Opcode.ADD, out, y, source1=image, multiplier=ones, low=-128, high=127)
    draft.output(out)
    draft.output(small)
    return draft.finish()


def test_there_is_a_row_for_each_step_in_order() -> None:
    program = a_program(host=True)
    found = list(spans.spans(program))
    assert len(found) == spans.count(program) == spans.output_spec(program).shape[0]
    npu, host = program.sections
    assert isinstance(npu, NpuSection)
    assert isinstance(host, HostSection)
    assert found[0] == Span(Step.LOAD, "Load", 0)
    names = [spans.operator_name(i.opcode) for i in program.instructions]
    assert found[1:-2] == [Span(Step.OPERATOR, name, k) for k, name in enumerate(names)]
    assert found[-2:] == [Span(Step.STORE, "Store", 0), Span(Step.HOST, "Softmax", 1)]


@pytest.mark.parametrize(
    ("opcode", "name"),
    [
        (Opcode.CONV2D, "LowLevelConv2d"),
        (Opcode.DEPTHWISE_CONV2D, "LowLevelDepthwiseConv2d"),
        (Opcode.PAD, "LowLevelPad"),
    ],
)
def test_operators_have_the_published_names(opcode: Opcode, name: str) -> None:
    assert spans.operator_name(opcode) == name


def test_spans_lie_within_the_run_and_the_heavy_operator_has_most_of_it() -> None:
    program = a_heavy_and_a_light_one()
    inputs = inputs_for(program, np.random.default_rng(0))
    engine = Engine(program, traced=True)
    outputs = [np.empty(s.shape, s.dtype.numpy) for s in engine.output_specs]
    bound = engine.bind(inputs, outputs)
    for _ in range(5):
        begun = time.monotonic_ns()
        timing = bound.execute()
        ended = time.monotonic_ns()
        times = outputs[-1]
        assert begun <= times.min()
        assert times.max() <= ended
        took = times[:, 1] - times[:, 0]
        assert took.sum() == timing.task_ns
        assert took[1:-1].sum() == timing.tensor_ns
        named = dict(zip((s.name for s in spans.spans(program)), took, strict=True))
        assert named["LowLevelConv2d"] > 5 * named["LowLevelReshape"] > 0


def test_what_nobody_reads_has_no_span() -> None:
    draft = Draft()
    x = draft.input(I8, (1, 64))
    unread = draft.emit(Opcode.RESHAPE, draft.buffer(I8, (64,)), x)
    draft.emit(Opcode.RESHAPE, draft.buffer(I8, (8, 8)), unread)
    draft.output(draft.emit(Opcode.RESHAPE, draft.buffer(I8, (4, 16)), x))
    program = draft.finish()
    *_, times = Engine(program, traced=True).run(inputs_for(program, np.random.default_rng(0)))
    assert [bool(row.any()) for row in times] == [True, False, False, True, True]
