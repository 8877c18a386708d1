"""Recording inferences on a real broker: what is in the trace, and that answers stay the same."""

import asyncio
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from furiosa import runtime
from furiosa.enf import NpuSection, read, write
from furiosa.enf.spans import operator_name
from furiosa.runtime import sync
from furiosa.runtime._core.recording import Sampling
from furiosa.runtime._sync.loaded_model import LoadedModel
from furiosa.runtime.profiler import RecordFormat, Resource, profile
from support import digits
from support.daemon import Daemon
from support.programs import a_program

IMAGE = digits.held_out_images()[0]


@pytest.fixture(scope="module")
def enf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("programs") / "digits.enf"
    path.write_bytes(digits.program())
    return path


def events(file: io.StringIO) -> list[dict[str, Any]]:
    return [event for event in json.loads(file.getvalue()) if event["ph"] == "X"]


def test_an_inference_is_recorded_down_to_its_operators(daemon: Daemon, enf: Path) -> None:
    file = io.StringIO()
    with sync.create_runner(enf, device="npu:0:1") as runner:
        (plain,) = runner.run([IMAGE])
        with profile(file=file) as profiler, profiler.record("mine"):
            (recorded,) = runner.run([IMAGE])
            (named,) = runner.run_with(["logits"], {"image": IMAGE})
        (after,) = runner.run([IMAGE])
    for answer in (recorded, named, after):
        np.testing.assert_array_equal(answer, plain)
    program = read(enf.read_bytes())
    (section,) = program.sections
    assert isinstance(section, NpuSection)
    operators = [operator_name(i.opcode) for i in program.instructions]
    one = ["Inference", "FeedInputs", "Execution", "Load", *operators, "Store"]
    found = events(file)
    assert [event["name"] for event in found] == [*one, *one, "mine"]
    assert {e["tid"] for e in found if e["cat"] == "NPU"} == {10_000_001}


def test_what_happens_inside_lies_inside(daemon: Daemon, enf: Path) -> None:
    """Client and worker tell the time by one clock."""
    file = io.StringIO()
    with (
        sync.create_runner(enf, device="npu:0:0") as runner,
        profile(file=file) as profiler,
        profiler.record("outer"),
    ):
        for _ in range(5):
            runner.run([IMAGE])
    found = events(file)
    (outer,) = (e for e in found if e["name"] == "outer")
    inferences = [e for e in found if e["name"] == "Inference"]
    assert len(inferences) == 5

    def inside(inner: dict[str, Any], whole: dict[str, Any]) -> bool:
        slack = 0.002  # us; times are rounded to ns
        return bool(
            whole["ts"] - slack <= inner["ts"]
            and inner["ts"] + inner["dur"] <= whole["ts"] + whole["dur"] + slack
        )

    assert all(inside(e, outer) for e in inferences)
    for name in ("FeedInputs", "Execution"):
        spans = [e for e in found if e["name"] == name]
        assert all(inside(s, e) for s, e in zip(spans, inferences, strict=True))
    executions = [e for e in found if e["name"] == "Execution"]
    operators = [e for e in found if e["name"].startswith("LowLevel")]
    assert all(sum(inside(o, e) for e in executions) == 1 for o in operators)


async def test_many_at_once_are_recorded_by_the_asynchronous_runner(
    daemon: Daemon, enf: Path
) -> None:
    file = io.StringIO()
    count = Sampling.WHOLE + Sampling.EVERY
    async with runtime.create_runner(enf, device="warboy*2", worker_num=4) as runner:
        with profile(Resource.Npu, file=file):
            answers = await asyncio.gather(*(runner.run([IMAGE]) for _ in range(count)))
    assert {int(logits.argmax()) for (logits,) in answers} == {digits.held_out_labels()[0]}
    names = [event["name"] for event in events(file)]
    assert names.count("Execution") == count
    assert names.count("Load") == Sampling.WHOLE + 1
    assert {e["tid"] for e in events(file)} == {10_000_000, 10_000_001}


def test_operators_on_the_cpu_are_recorded(daemon: Daemon) -> None:

    program = a_program(host=True, target="warboy")
    rng = np.random.default_rng(0)
    (spec,) = program.input_specs
    image = rng.integers(-128, 128, spec.shape).astype(spec.dtype.numpy)
    with (
        sync.create_runner(write(program), device="npu:0:0") as runner,
        profile(format=RecordFormat.PandasDataFrame, file=io.StringIO()) as profiler,
    ):
        runner.run([image])
    spans = [span for span in profiler._spans if span.operator_index is not None]
    assert [(s.name, s.category.value, s.operator_index) for s in spans] == [
        ("Softmax", "Runtime", 1)
    ]


def test_where_there_is_no_room_for_a_second_program_executions_are_recorded_whole(
    daemon: Daemon, enf: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:

    def refused(self: LoadedModel) -> None:
        raise runtime.FuriosaRuntimeError("no room")

    file = io.StringIO()
    with sync.create_runner(enf, device="npu:0:0") as runner:
        monkeypatch.setattr(LoadedModel, "load", refused)
        with profile(file=file):
            for _ in range(3):
                runner.run([IMAGE])
    assert [event["name"] for event in events(file)] == ["Inference", "FeedInputs", "Execution"] * 3
    assert [record.message for record in caplog.records if "no room" in record.message] == [
        "operators are not measured, executions are recorded as a whole: no room"
    ]


def test_a_closed_runner_takes_the_traced_program_along(daemon: Daemon, enf: Path) -> None:
    with sync.Runtime("npu:0:0") as held:
        for _ in range(40):  # a lease may have fewer programs than this
            with held.create_runner(enf) as runner, profile(file=io.StringIO()):
                assert runner.run([IMAGE])[0].argmax() == digits.held_out_labels()[0]
