"""Queues whose broker goes, and comes back or does not, in both styles."""

from typing import Any

import anyio
import numpy as np
import pytest

from furiosa.runtime import FuriosaRuntimeError
from furiosa.runtime._core.errors import SessionClosed, SessionTerminated
from support.fake_connection import FakeNpu
from support.runners import ENF, GONE, ones, waits
from support.twins import Twin


async def test_a_queue_goes_on_after_what_was_in_flight_has_failed(
    npu: FakeNpu, twin: Twin
) -> None:
    submitter, receiver = await twin.create_queue(ENF, worker_num=2)
    npu.hold()
    for number in range(6):
        await twin.submit(submitter, ones(number), number)
    while len(submitter._queue.loaded._deployments[0].runs._submitted) < 2:
        await anyio.lowlevel.checkpoint()
    npu.restart()
    npu.go.set()
    done: dict[Any, Any] = {}
    lost: list[tuple[Any, str]] = []
    for _ in range(6):
        try:
            context, (output,) = await twin.recv(receiver)
            done[context] = output
        except FuriosaRuntimeError as error:
            lost.append((error.context, str(error)))
    text = f"the broker went away, and it is not known whether this inference was run: {GONE}"
    assert sorted(lost) == [(0, text), (1, text)]
    assert sorted(done) == [2, 3, 4, 5]
    assert all(np.array_equal(output, ones(2 * number)) for number, output in done.items())
    assert npu.resumed == ["lease-1"]
    assert await twin.close(receiver) is True


async def test_an_idle_queue_resumes_by_itself(npu: FakeNpu, twin: Twin) -> None:
    submitter, receiver = await twin.create_queue(ENF)
    npu.restart()
    while not npu.resumed:
        await anyio.lowlevel.checkpoint()
    await twin.submit(submitter, ones(), 1)
    assert (await twin.recv(receiver))[0] == 1
    assert await twin.close(receiver) is True


@pytest.mark.usefixtures("impatient")
async def test_a_queue_ends_when_the_broker_stays_away(npu: FakeNpu, twin: Twin) -> None:
    _, receiver = await twin.create_queue(ENF)
    npu.die()
    with pytest.raises(SessionTerminated, match=GONE):
        await twin.recv(receiver)
    assert await twin.close(receiver) is True


async def test_a_queue_is_closed_while_the_broker_is_away(npu: FakeNpu, twin: Twin) -> None:
    submitter, receiver = await twin.create_queue(ENF)
    npu.die()
    await waits(submitter._queue.loaded)
    for number in range(3):
        await twin.submit(submitter, ones(), number)
    assert await twin.close(receiver) is True
    with pytest.raises(SessionClosed):
        await twin.recv(receiver)
