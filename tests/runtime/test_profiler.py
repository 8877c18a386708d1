"""`profile` without a device: what it takes, when it records, what it writes."""

import io
import json
from pathlib import Path
from typing import Any

import pytest

from furiosa.common.names import CoreRange, DeviceFile
from furiosa.enf.spans import Span as Row
from furiosa.enf.spans import Step
from furiosa.runtime._core import recording
from furiosa.runtime._core.spans import Inference
from furiosa.runtime.profiler import RecordFormat, Resource, profile

A_RUN = Inference(
    parent=None,
    thread_id=11,
    device=DeviceFile(0, CoreRange(1, 1)),
    begun=1_000,
    submitted=2_000,
    started=3_000,
    task_ns=4_000,
    ended=9_000,
    rows=(
        Row(Step.LOAD, "Load", 0),
        Row(Step.OPERATOR, "LowLevelPad", 0),
        Row(Step.STORE, "Store", 0),
    ),
    times=((3_000, 3_500), (3_500, 6_500), (6_500, 7_000)),
)


def events(file: io.StringIO) -> list[dict[str, Any]]:
    found = json.loads(file.getvalue())
    assert isinstance(found, list)
    return found


def names(file: io.StringIO) -> list[str]:
    return [event["name"] for event in events(file) if event["ph"] == "X"]


def test_nothing_is_recorded_outside_of_the_context() -> None:
    file = io.StringIO()
    recording.add(A_RUN)
    with profile(file=file):
        assert recording.active
        recording.add(A_RUN)
    recording.add(A_RUN)
    assert recording.active == ()
    assert names(file).count("Inference") == 1


def test_complete_events_have_times_in_us_from_the_earliest_start() -> None:
    file = io.StringIO()
    with profile(file=file):
        recording.add(A_RUN)
    found = {event["name"]: event for event in events(file)}
    assert {e["ph"] for e in found.values()} == {"X", "M"}
    assert (found["Inference"]["ts"], found["Inference"]["dur"]) == (0.0, 8.0)
    assert (found["LowLevelPad"]["ts"], found["LowLevelPad"]["dur"]) == (2.5, 3.0)
    assert found["Inference"]["cat"] == "Runtime"
    assert found["Inference"]["tid"] == 11
    assert found["LowLevelPad"]["cat"] == "NPU"
    assert found["LowLevelPad"]["tid"] == 10_000_001
    assert found["LowLevelPad"]["args"] == {
        "pe_index": "1",
        "execution_index": "0",
        "instruction_index": "0",
    }
    thread = found["thread_name"]
    assert (thread["tid"], thread["args"]) == (10_000_001, {"name": "NPU 1"})
    assert len({event["pid"] for event in found.values()}) == 1


@pytest.mark.parametrize(
    ("resource", "expected"),
    [
        (Resource.Cpu, ["Inference", "FeedInputs"]),
        (Resource.Npu, ["Execution", "Load", "LowLevelPad", "Store"]),
    ],
)
def test_a_resource_keeps_only_its_spans(resource: Resource, expected: list[str]) -> None:
    file = io.StringIO()
    with profile(resource, file=file):
        recording.add(A_RUN)
    assert names(file) == expected


def test_while_paused_nothing_is_recorded() -> None:
    file = io.StringIO()
    with profile(file=file) as profiler:
        profiler.pause()
        profiler.pause()
        recording.add(A_RUN)
        with profiler.record("unheard"):
            pass
        profiler.resume()
        with profiler.record("heard"):
            recording.add(A_RUN._replace(parent=recording.around.get()))
    assert sorted(set(names(file))) == [
        "Execution",
        "FeedInputs",
        "Inference",
        "Load",
        "LowLevelPad",
        "Store",
        "heard",
    ]


def test_each_of_nested_profilers_records_everything() -> None:
    outer, inner = io.StringIO(), io.StringIO()
    with profile(file=outer):
        recording.add(A_RUN)
        with profile(file=inner):
            recording.add(A_RUN)
    assert names(outer).count("Inference") == 2
    assert names(inner).count("Inference") == 1


def test_an_exception_ends_the_recording_and_the_file_is_written() -> None:
    file = io.StringIO()
    with pytest.raises(ZeroDivisionError), profile(file=file) as profiler, profiler.record("bad"):
        raise ZeroDivisionError
    assert names(file) == ["bad"]
    assert recording.active == ()
    assert recording.around.get() is None


def test_binary_files_and_temporary_ones_do(tmp_path: Path) -> None:
    path = tmp_path / "trace.json"
    with path.open("wb") as file, profile(file=file) as profiler, profiler.record("a"):
        pass
    assert json.loads(path.read_text())[0]["name"] == "a"
    with profile() as profiler, profiler.record("b"):
        pass
    assert profiler.file is not None
    temporary = Path(profiler.file.name)
    assert json.loads(temporary.read_text())[0]["name"] == "b"
    temporary.unlink()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"resource": "All"}, "resource: expected a Resource, found 'All'"),
        ({"format": 0}, "format: expected a RecordFormat, found 0"),
        ({"file": "trace.json"}, "file: expected a file object to write to, found 'trace.json'"),
    ],
)
def test_bad_arguments_are_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        profile(**arguments)
    assert RecordFormat.ChromeTrace.value == 0


def test_a_profiler_records_once_and_only_when_it_is_entered() -> None:
    profiler = profile(file=io.StringIO())
    with pytest.raises(RuntimeError, match="enter its context first"):
        profiler.pause()
    with profiler:
        pass
    with pytest.raises(RuntimeError, match="make a new one"):
        profiler.__enter__()


def test_both_spellings_of_a_resource_are_one() -> None:
    assert [*Resource] == [Resource.ALL, Resource.CPU, Resource.NPU]
    assert [Resource.All, Resource.Cpu, Resource.Npu] == [*Resource]
