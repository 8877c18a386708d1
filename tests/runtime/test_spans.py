"""Spans of an inference: names, order, parents, and times of a device on another machine."""

from collections.abc import Sequence

import pytest

from furiosa.common.names import ALL, CoreRange, DeviceFile
from furiosa.enf.spans import Span as Row
from furiosa.enf.spans import Step
from furiosa.runtime._core.recording import Sampling
from furiosa.runtime._core.spans import Category, Inference, Named, Place, Span, below, pe_index

OFFSET = 1_000_000
ROWS = (
    Row(Step.LOAD, "Load", 0),
    Row(Step.OPERATOR, "LowLevelConv2d", 0),
    Row(Step.OPERATOR, "LowLevelPad", 1),
    Row(Step.STORE, "Store", 0),
    Row(Step.HOST, "Softmax", 1),
    Row(Step.LOAD, "Load", 2),
    Row(Step.OPERATOR, "LowLevelAdd", 2),
    Row(Step.STORE, "Store", 2),
)
TIMES = ((30, 31), (31, 40), (0, 0), (40, 42), (42, 50), (50, 51), (51, 60), (60, 61))


def an_inference(
    *,
    rows: Sequence[Row] = ROWS,
    times: Sequence[Sequence[int]] = TIMES,
    started: int = 30,
    parent: Place | None = None,
) -> Inference:
    return Inference(
        parent=parent,
        thread_id=7,
        device=DeviceFile(1, CoreRange(1, 1)),
        begun=10,
        submitted=20,
        started=started,
        task_ns=31,
        ended=80,
        rows=rows,
        times=times,
    )


def by_name(spans: Sequence[Span]) -> dict[str, Span]:
    return {f"{span.name}/{span.execution_index}": span for span in spans}


def test_every_step_that_was_made_is_a_span() -> None:
    spans = list(an_inference().spans(OFFSET))
    assert [(s.name, s.start - OFFSET, s.end - OFFSET) for s in spans] == [
        ("Inference", 10, 80),
        ("FeedInputs", 10, 20),
        ("Execution", 30, 42),
        ("Load", 30, 31),
        ("LowLevelConv2d", 31, 40),
        ("Store", 40, 42),
        ("Softmax", 42, 50),
        ("Execution", 50, 61),
        ("Load", 50, 51),
        ("LowLevelAdd", 51, 60),
        ("Store", 60, 61),
    ]


def test_spans_hang_below_their_inference_and_execution() -> None:
    spans = list(an_inference().spans(OFFSET))
    assert len({s.trace_id for s in spans}) == 1
    assert len({s.span_id for s in spans}) == len(spans)
    found = by_name(spans)
    root = found["Inference/None"]
    assert root.parent_id == 0
    for name in ("FeedInputs/None", "Execution/0", "Softmax/None", "Execution/1"):
        assert found[name].parent_id == root.span_id
    for name, execution in (("LowLevelConv2d/0", 0), ("Store/0", 0), ("LowLevelAdd/1", 1)):
        assert found[name].parent_id == found[f"Execution/{execution}"].span_id


def test_npu_spans_name_the_pe_and_the_instruction_and_others_the_operator() -> None:
    found = by_name(list(an_inference().spans(OFFSET)))
    conv, load, softmax = (found[n] for n in ("LowLevelConv2d/0", "Load/0", "Softmax/None"))
    assert conv.category is load.category is Category.NPU
    assert (conv.pe_index, conv.instruction_index, conv.operator_index) == (3, 0, None)
    assert (load.pe_index, load.instruction_index) == (3, None)
    assert softmax.category is Category.RUNTIME
    assert (softmax.pe_index, softmax.operator_index, softmax.thread_id) == (None, 1, 7)


def test_without_steps_there_is_one_execution_of_the_whole() -> None:
    spans = list(an_inference(rows=(), times=()).spans(OFFSET))
    assert [(s.name, s.start - OFFSET, s.end - OFFSET) for s in spans] == [
        ("Inference", 10, 80),
        ("FeedInputs", 10, 20),
        ("Execution", 30, 61),
    ]


@pytest.mark.parametrize("ahead", [-(10**12), 10**12, 25])
def test_a_device_with_another_clock_is_put_into_the_middle_of_the_call(ahead: int) -> None:
    times = [(start + ahead, end + ahead) if end else (0, 0) for start, end in TIMES]
    spans = list(an_inference(started=30 + ahead, times=times).spans(OFFSET))
    found = by_name(spans)
    first, last = found["Load/0"], found["Store/1"]
    assert last.end - first.start == 31
    before, after = first.start - OFFSET - 20, 80 + OFFSET - last.end
    assert abs(before - after) <= 1
    assert found["Softmax/None"].start == found["Store/0"].end


def test_spans_below_a_named_one_share_its_trace() -> None:
    place, parent_id = below(None)
    (outer,) = Named(place, parent_id, 7, 5, 90, "batch").spans(OFFSET)
    inner = next(an_inference(parent=place).spans(OFFSET))
    assert (outer.name, outer.start, outer.end, outer.parent_id) == (
        "batch",
        5 + OFFSET,
        90 + OFFSET,
        0,
    )
    assert (inner.trace_id, inner.parent_id) == (outer.trace_id, outer.span_id)


@pytest.mark.parametrize(
    ("device", "index"),
    [
        (DeviceFile(0, CoreRange(0, 0)), 0),
        (DeviceFile(0, CoreRange(1, 1)), 1),
        (DeviceFile(2, CoreRange(0, 1)), 4),
        (DeviceFile(2, ALL), 4),
    ],
)
def test_pes_are_counted_over_all_cards(device: DeviceFile, index: int) -> None:
    assert pe_index(device) == index


def test_the_first_inferences_are_measured_and_then_a_part_of_them() -> None:
    sampling = Sampling()
    chosen = [number for number in range(1, 201) if sampling.next()]
    assert chosen[: Sampling.WHOLE] == list(range(1, Sampling.WHOLE + 1))
    assert chosen[Sampling.WHOLE :] == list(range(36, 201, Sampling.EVERY))
