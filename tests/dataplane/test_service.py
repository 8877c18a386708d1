"""How far a stream reads ahead: against a context and a device that do as they are told."""

import asyncio
from typing import Any, cast

import grpc
import pytest

from furiosa.common.errors import BadArgument
from furiosa.dataplane.lane import Result
from furiosa.dataplane.requests import decode
from furiosa.dataplane.service import MAX_IN_FLIGHT, InferenceService
from furiosa.proto.broker.v1 import inference_pb2 as pb


class Aborted(Exception):
    pass


class Context:
    """A client that sends `count` requests and takes an answer for each `take`."""

    def __init__(self, count: int) -> None:
        self.left = count
        self.read_so_far = 0
        self.answers: list[pb.RunStreamResponse] = []
        self.take = asyncio.Semaphore(0)
        self.aborted: grpc.StatusCode | None = None

    def invocation_metadata(self) -> list[tuple[str, str]]:
        return [("user-agent", f"furiosa-session/{'5e' * 32} grpc-python-asyncio/1.78.2")]

    async def read(self) -> Any:
        if not self.left:
            return grpc.aio.EOF
        self.left -= 1
        self.read_so_far += 1
        return decode(pb.RunRequest(id=self.read_so_far).SerializeToString())

    async def write(self, answer: pb.RunStreamResponse) -> None:
        await self.take.acquire()
        self.answers.append(answer)

    async def abort(self, code: grpc.StatusCode, text: str, trailers: Any) -> None:
        self.aborted = code
        raise Aborted


class Device:
    """Stands in for both the table of ports and the port; a run ends for each `end`."""

    def __init__(self) -> None:
        self.end = asyncio.Semaphore(0)
        self.running = 0

    async def get(self, token: str, lease_id: str, program_id: int) -> "Device":
        assert token == "5e" * 32
        return self

    async def run(self, inputs: Any) -> Result:
        self.running += 1
        try:
            await self.end.acquire()
        finally:
            self.running -= 1
        return Result([b"y"], 1)


async def settled() -> None:
    """Until nothing more happens by itself."""
    for _ in range(500):
        await asyncio.sleep(0)


def streaming(device: Any, context: Context) -> "asyncio.Task[None]":
    service = InferenceService(cast("Any", device))
    return asyncio.ensure_future(service.RunStream(cast("Any", None), context))


async def test_a_stream_reads_no_further_than_its_window() -> None:
    device, context = Device(), Context(1000)
    stream = streaming(device, context)
    await settled()
    assert (context.read_so_far, device.running) == (MAX_IN_FLIGHT, MAX_IN_FLIGHT)
    device.end.release()  # a run that ended makes no room before its answer was taken
    await settled()
    assert context.read_so_far == MAX_IN_FLIGHT
    context.take.release()
    await settled()
    assert (context.read_so_far, len(context.answers)) == (MAX_IN_FLIGHT + 1, 1)
    for _ in range(1000):
        device.end.release()
        context.take.release()
    await stream
    assert sorted(answer.response.id for answer in context.answers) == list(range(1, 1001))


async def test_a_cancelled_stream_stops_its_runs_and_ends_with_a_status() -> None:
    device, context = Device(), Context(1000)
    stream = streaming(device, context)
    await settled()
    stream.cancel()
    with pytest.raises(Aborted):
        await stream
    assert context.aborted is grpc.StatusCode.ABORTED
    assert device.running == 0


async def test_a_cancelled_run_ends_with_a_status() -> None:
    device, context = Device(), Context(0)
    service = InferenceService(cast("Any", device))
    run = asyncio.ensure_future(service.Run(decode(b""), context))
    await settled()
    run.cancel()
    with pytest.raises(Aborted):
        await run
    assert context.aborted is grpc.StatusCode.ABORTED


async def test_a_defect_of_ours_is_told_by_reference_only(caplog: pytest.LogCaptureFixture) -> None:
    class Broken:
        async def get(self, *_: Any) -> Any:
            raise KeyError("a secret")

    context = Context(2)
    context.take.release()
    context.take.release()
    await streaming(Broken(), context)
    for answer in context.answers:
        assert answer.failure.detail.reason == "INTERNAL_ERROR"
        assert "secret" not in str(answer)
        assert answer.failure.detail.fields["reference"] in caplog.text


async def test_a_known_error_keeps_its_fields() -> None:
    class Refusing:
        async def get(self, *_: Any) -> Any:
            raise BadArgument("inputs", "1", "2")

    context = Context(1)
    context.take.release()
    await streaming(Refusing(), context)
    [answer] = context.answers
    assert answer.failure.id == 1
    assert answer.failure.code == grpc.StatusCode.INVALID_ARGUMENT.value[0]
    assert dict(answer.failure.detail.fields) == {
        "argument": "inputs",
        "found": "1",
        "expected": "2",
    }
