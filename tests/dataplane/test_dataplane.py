"""The data plane over real gRPC and real workers, whose engines do as they are told."""

import asyncio
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from furiosa.broker.workers.counters import Counters
from furiosa.broker.workers.messages import Inject
from furiosa.common.errors import (
    BadArgument,
    BrokerUnavailable,
    DeviceError,
    FuriosaError,
    InternalError,
    LeaseEnded,
    NoSession,
    UnknownProgram,
    WorkerDied,
)
from furiosa.common.status import Failed, from_failed
from furiosa.common.views import LeaseEndedNotice, Notice, WorkerDiedNotice
from furiosa.dataplane import lane, ports
from furiosa.proto.broker.v1 import handoff_pb2, inference_pb2
from furiosa.queuepair import BrokenQueue, ClientQueue, Descriptors
from support import engines
from support.dataplanes import TOKEN, BrokerSide, Plane, a_plane, client, error_in
from support.queues import open_descriptors
from support.waiting import until
from support.workers import PE0, PE1, Bench, a_pool, children, fake_engines, status_of


@pytest.fixture
def folder() -> Iterator[Path]:
    """Short enough for a socket's path."""
    path = Path(tempfile.mkdtemp(prefix="fb", dir="/tmp"))
    yield path
    shutil.rmtree(path)


@pytest.fixture
async def bench(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bench]:
    async with a_pool(**fake_engines(monkeypatch)) as bench:
        yield bench


@pytest.fixture
async def plane(bench: Bench, folder: Path) -> AsyncIterator[Plane]:
    async with a_plane(bench, folder) as plane:
        yield plane


@pytest.fixture
async def stub(plane: Plane) -> AsyncIterator[Any]:
    async with client(plane.path) as stub:
        yield stub


def request(program: int, id: int = 1, **changes: Any) -> inference_pb2.RunRequest:
    fields = {"lease_id": "a", "program_id": program, "inputs": [bytes(range(64))], "id": id}
    return inference_pb2.RunRequest(**{**fields, **changes})


INVERTED = bytes(255 - n for n in range(64))


def wait_for_a_slot(plane: Plane) -> list[int]:
    """How many runs, of each port."""
    return [len(vars(entry.port._free)["_getters"]) for entry in plane.ports._entries.values()]


async def failure_of(call: Any) -> FuriosaError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return error_in(caught.value)


async def test_a_run_returns_outputs_its_id_and_the_time_on_the_device(
    bench: Bench, stub: Any
) -> None:
    program = await bench.load("a", engines.INVERT)
    response = await stub.Run(request(program.id, id=42))
    assert response == inference_pb2.RunResponse(outputs=[INVERTED], id=42, device_time_ns=1000)


async def test_many_runs_at_once_share_the_slots(bench: Bench, plane: Plane, stub: Any) -> None:
    program = await bench.load("a", engines.INVERT)
    inputs = [bytes([n % 256] * 64) for n in range(100)]
    responses = await asyncio.gather(
        *(stub.Run(request(program.id, id=n, inputs=[data])) for n, data in enumerate(inputs))
    )
    assert [response.id for response in responses] == list(range(100))
    assert [list(r.outputs) for r in responses] == [
        [bytes([255 - n % 256] * 64)] for n in range(100)
    ]
    assert plane.broker.log == ["Session/DescribeProgramFor", "Session/OpenQueueFor"]


async def test_all_device_files_of_a_lease_share_the_work(bench: Bench, stub: Any) -> None:
    program = await bench.load("a", engines.INVERT, PE0, PE1)
    await asyncio.gather(*(stub.Run(request(program.id)) for _ in range(40)))
    for file in (PE0, PE1):
        counters = bench.pool.counters(file)
        assert counters is not None
        assert counters.runs >= 8


@pytest.mark.parametrize(
    ("inputs", "argument"),
    [([], "inputs"), ([b"x" * 64] * 2, "inputs"), ([b"x" * 63], "input 'x'"), ([b""], "input 'x'")],
)
async def test_inputs_must_be_the_programs(
    bench: Bench, stub: Any, inputs: list[bytes], argument: str
) -> None:
    program = await bench.load("a", engines.INVERT)
    error = await failure_of(stub.Run(request(program.id, inputs=inputs)))
    assert isinstance(error, BadArgument)
    assert error.argument == argument


async def test_without_a_live_session_nothing_runs(bench: Bench, plane: Plane) -> None:
    program = await bench.load("a", engines.INVERT)
    for token in ("", "5f" * 32, "5e" * 31, TOKEN.upper(), TOKEN + "00"):
        async with client(plane.path, token) as stub:
            assert isinstance(await failure_of(stub.Run(request(program.id))), NoSession)
            stream = stub.RunStream()
            if token == "5f" * 32:  # looks like one: it is the broker who knows
                await stream.write(request(program.id, id=7))
                answer = (await stream.read()).failure
                assert (answer.id, answer.detail.reason) == (7, "NO_SESSION")
            else:
                assert isinstance(await failure_of(stream.read()), NoSession)


async def test_an_unknown_program_is_named(bench: Bench, stub: Any) -> None:
    await bench.load("a", engines.INVERT)
    error = await failure_of(stub.Run(request(99)))
    assert isinstance(error, UnknownProgram)
    assert (error.lease, error.program) == ("a", 99)


async def test_a_failed_run_is_told_and_the_next_one_works(bench: Bench, stub: Any) -> None:
    failing = await bench.load("a", engines.FAIL)
    good = await bench.load("a", engines.INVERT)
    error = await failure_of(stub.Run(request(failing.id)))
    assert isinstance(error, InternalError)
    assert error.reference == "execution_failed on npu0pe0"
    assert list((await stub.Run(request(good.id))).outputs) == [INVERTED]


async def test_a_device_error_is_named_and_the_next_run_works(bench: Bench, stub: Any) -> None:
    program = await bench.load("a", engines.INVERT)
    bench.pool.inject(lambda file: Inject(0, hang=0, failures=1, every=1, delay_ns=0))
    error = await failure_of(stub.Run(request(program.id)))
    assert isinstance(error, DeviceError)
    assert str(error).startswith("npu0pe0: a DMA error: the inputs did not reach the card")
    assert list((await stub.Run(request(program.id))).outputs) == [INVERTED]


async def test_an_unloaded_program_is_unknown_and_its_queue_is_closed(
    bench: Bench, plane: Plane, stub: Any
) -> None:
    program = await bench.load("a", engines.INVERT)
    await stub.Run(request(program.id))
    await bench.pool.unload("a", program.id)
    for _ in range(2):
        assert isinstance(await failure_of(stub.Run(request(program.id))), UnknownProgram)
    await until(lambda: plane.broker.log.count("Session/CloseQueue") == 1)


async def test_programs_that_were_run_once_do_not_use_up_the_queues_of_their_lease(
    bench: Bench, plane: Plane, stub: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client that changes programs all day; nobody tells the data plane of an unload."""
    monkeypatch.setattr(ports, "MAX_PORTS", 2)
    busy = await bench.load("a", engines.HANG, PE1)
    hanging = asyncio.ensure_future(stub.Run(request(busy.id)))
    await until(lambda: bench.pool.counters(PE1) not in (None, Counters()))
    for number in range(5):
        program = await bench.load("a", engines.INVERT)
        assert (await stub.Run(request(program.id, number))).outputs == [INVERTED]
        await bench.pool.unload("a", program.id)
    await until(lambda: plane.broker.log.count("Session/CloseQueue") == 4)
    assert plane.broker.log.count("Session/OpenQueueFor") == 6
    assert not hanging.done()
    hanging.cancel()


async def test_the_end_of_a_lease_ends_its_runs(bench: Bench, plane: Plane, stub: Any) -> None:
    program = await bench.load("a", engines.HANG)
    # more than there are slots: some wait on the device, some for a slot
    runs = [asyncio.ensure_future(stub.Run(request(program.id))) for _ in range(lane.DEPTH + 3)]
    await until(lambda: wait_for_a_slot(plane) == [3])
    await plane.broker.end_lease("a")
    for run in runs:
        assert isinstance(await failure_of(run), LeaseEnded)
    assert not plane.ports._entries


async def test_the_end_of_one_lease_is_nothing_to_another(
    bench: Bench, plane: Plane, stub: Any
) -> None:
    first = await bench.load("a", engines.INVERT, PE0)
    await bench.load("b", engines.INVERT, PE1)
    await stub.Run(request(first.id))
    await stub.Run(request(first.id, lease_id="b"))
    await plane.broker.end_lease("b")
    await until(lambda: len(plane.ports._entries) == 1)
    assert list((await stub.Run(request(first.id))).outputs) == [INVERTED]
    assert plane.broker.log.count("Session/OpenQueueFor") == 2


@pytest.mark.parametrize(
    ("notice", "error"),
    [
        (LeaseEndedNotice("a", "it was released"), LeaseEnded),
        (WorkerDiedNotice("a", PE0, "killed by signal 9 (SIGKILL)"), WorkerDied),
    ],
)
async def test_a_notice_right_behind_the_queue_is_not_missed(
    bench: Bench, plane: Plane, stub: Any, notice: Notice, error: type[FuriosaError]
) -> None:
    program = await bench.load("a", engines.HANG)
    plane.broker.after_open = notice
    assert isinstance(await failure_of(stub.Run(request(program.id))), error)
    assert not plane.ports._entries


async def test_a_dead_worker_fails_its_runs_and_a_new_program_works(
    bench: Bench, plane: Plane, stub: Any
) -> None:
    program = await bench.load("a", engines.DIE)
    run = asyncio.ensure_future(stub.Run(request(program.id)))
    await plane.broker.worker_died()
    error = await failure_of(run)
    assert isinstance(error, WorkerDied)
    assert (error.device, error.cause) == ("npu0pe0", "exited with status 7")
    assert isinstance(await failure_of(stub.Run(request(program.id))), UnknownProgram)
    again = await bench.load("a", engines.INVERT)
    assert list((await stub.Run(request(again.id))).outputs) == [INVERTED]


async def test_one_dead_worker_of_two_leaves_the_other_working(
    bench: Bench, plane: Plane, stub: Any
) -> None:
    program = await bench.load("a", engines.INVERT, PE0, PE1)
    await stub.Run(request(program.id))
    os.kill(bench.pid(PE0), signal.SIGKILL)
    await plane.broker.worker_died()
    for _ in range(20):
        assert list((await stub.Run(request(program.id))).outputs) == [INVERTED]
    assert bench.pool.counters(PE0) is None


async def test_a_call_given_up_frees_its_slot_when_its_run_ends(bench: Bench, stub: Any) -> None:
    program = await bench.load("a", engines.INVERT)
    await stub.Run(request(program.id))
    os.kill(bench.pid(), signal.SIGSTOP)
    given_up = [stub.Run(request(program.id)) for _ in range(2 * lane.DEPTH)]
    await asyncio.wait([asyncio.ensure_future(call.code()) for call in given_up[:1]], timeout=0.1)
    for call in given_up:
        call.cancel()
    os.kill(bench.pid(), signal.SIGCONT)
    for n in range(2 * lane.DEPTH):
        data = bytes([n] * 64)
        response = await stub.Run(request(program.id, inputs=[data]))
        assert list(response.outputs) == [bytes([255 - n] * 64)]


async def test_a_stream_answers_each_request_and_outlives_failures(bench: Bench, stub: Any) -> None:
    good = await bench.load("a", engines.INVERT)
    failing = await bench.load("a", engines.FAIL)
    call = stub.RunStream()
    for n in range(30):
        await call.write(request(failing.id if n % 3 == 0 else good.id, id=n))
    await call.write(request(good.id, id=30, inputs=[]))
    await call.done_writing()
    answers = {getattr(a, str(a.WhichOneof("outcome"))).id: a async for a in call}
    assert sorted(answers) == list(range(31))
    for n, answer in answers.items():
        kind = answer.WhichOneof("outcome")
        if n % 3 == 0 and n < 30:
            assert kind == "failure"
            assert answer.failure.detail.reason == "INTERNAL_ERROR"
        elif n == 30:
            failure = answer.failure
            failed = Failed(
                failure.code, failure.message, failure.detail.reason, failure.detail.fields
            )
            assert isinstance(from_failed(failed), BadArgument)
            assert failure.code == grpc.StatusCode.INVALID_ARGUMENT.value[0]
        else:
            assert list(answer.response.outputs) == [INVERTED]
    assert await call.code() is grpc.StatusCode.OK


async def test_a_stream_answers_in_the_order_of_completion(bench: Bench, stub: Any) -> None:
    slow = await bench.load("a", engines.INVERT, PE0)
    fast = await bench.load("b", engines.INVERT, PE1)
    call = stub.RunStream()
    await call.write(request(slow.id, id=1))
    assert (await call.read()).response.id == 1
    os.kill(bench.pid(PE0), signal.SIGSTOP)
    await call.write(request(slow.id, id=2))
    await call.write(request(fast.id, id=3, lease_id="b"))
    assert (await call.read()).response.id == 3
    os.kill(bench.pid(PE0), signal.SIGCONT)
    assert (await call.read()).response.id == 2
    call.cancel()


async def test_a_stream_given_up_leaves_the_program_usable(bench: Bench, stub: Any) -> None:
    program = await bench.load("a", engines.INVERT)
    for _ in range(3):
        call = stub.RunStream()
        for n in range(10):
            await call.write(request(program.id, id=n))
        await call.read()
        call.cancel()
    assert list((await stub.Run(request(program.id))).outputs) == [INVERTED]


async def test_without_a_broker_runs_fail_and_the_process_is_told(
    bench: Bench, plane: Plane, stub: Any
) -> None:
    program = await bench.load("a", engines.HANG)
    run = asyncio.ensure_future(stub.Run(request(program.id)))
    await until(lambda: (c := bench.pool.counters(PE0)) is not None and c.task_ns > 0)
    plane.broker.close()
    assert isinstance(await failure_of(run), BrokerUnavailable)
    await plane.broker_gone.wait()
    assert isinstance(await failure_of(stub.Run(request(program.id))), BrokerUnavailable)


async def test_a_broker_that_makes_no_sense_is_no_broker(bench: Bench, plane: Plane) -> None:
    plane.broker.send(handoff_pb2.Frame(notice=handoff_pb2.Notice()))
    await plane.broker_gone.wait()


async def test_a_broker_that_is_gone_already_is_not_greeted(bench: Bench, plane: Plane) -> None:
    plane.broker.close()
    await plane.broker_gone.wait()
    plane.ports.hello("too late")


@pytest.mark.parametrize("error", [BrokenQueue("forged"), OSError("no memory")])
async def test_a_queue_that_cannot_be_used_is_closed(
    bench: Bench, plane: Plane, stub: Any, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def attach(descriptors: Descriptors, geometry: object) -> ClientQueue:
        for fd in descriptors.as_tuple():
            os.close(fd)
        raise error

    monkeypatch.setattr(ClientQueue, "attach", attach)
    program = await bench.load("a", engines.INVERT)
    expected = WorkerDied if isinstance(error, BrokenQueue) else InternalError
    assert isinstance(await failure_of(stub.Run(request(program.id))), expected)
    await until(lambda: "Session/CloseQueue" in plane.broker.log)


async def test_nothing_is_left_open(bench: Bench, folder: Path) -> None:
    program = await bench.load("a", engines.INVERT)
    before = {name for name in open_descriptors() if "memfd" in name or "eventfd" in name}
    async with a_plane(bench, folder) as plane, client(plane.path) as stub:
        await stub.Run(request(program.id))
        await plane.broker.end_lease("a")
        await until(lambda: not plane.ports._entries)
        kept = {name for name in open_descriptors() if "furiosa-queue" in name}
        assert not kept & before
        assert not kept


async def test_the_process_serves_until_its_broker_hangs_up(bench: Bench, folder: Path) -> None:
    program = await bench.load("a", engines.INVERT)
    ours, theirs = socket.socketpair()
    path = folder / "data.sock"
    process = subprocess.Popen(  # noqa: ASYNC220  # forks in a millisecond
        [
            *(sys.executable, "-m", "furiosa.dataplane", "--socket", str(path)),
            *("--broker-fd", str(theirs.fileno()), "--socket-mode", "600"),
        ],
        pass_fds=[theirs.fileno()],
    )
    theirs.close()
    broker = BrokerSide(bench, ours)
    try:
        assert await broker.hello == "furiosa-dataplane"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        status = status_of(process.pid)
        assert status["NoNewPrivs"] == ["1"]
        if os.geteuid() == 0:
            assert "0" not in status["Uid"]
            assert int(status["CapEff"][0], 16) == 0
        async with client(path) as stub:
            assert list((await stub.Run(request(program.id))).outputs) == [INVERTED]
    finally:
        broker.close()
        assert await asyncio.to_thread(process.wait, 30) == 0
    assert process.pid not in children()
