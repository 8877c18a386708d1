"""The line of a queue: who may go on, after any sequence of events."""

import random
from dataclasses import dataclass, field

import pytest

from furiosa.runtime._core.errors import SessionClosed, SessionTerminated
from furiosa.runtime._core.line import Drained, Job, Line, ReceiverClosed, Result


@dataclass(eq=False)
class Flag:
    is_set: bool = field(default=False)

    def set(self) -> None:
        self.is_set = True


def job(context: object = None) -> Job:
    return Job((), context)


def advance(line: Line) -> list[Job]:
    started = list(iter(line.start, None))
    for signal in line.due():
        signal.set()
    return started


def test_who_comes_first_goes_first() -> None:
    line = Line(1, 1, 1)
    assert line.submit(job())
    first, second = Flag(), Flag()
    line.senders += [first, second]
    assert not line.submit(job(), first)
    line.start()
    assert line.due() == [first]
    assert not line.submit(job(), second), "there is room for one, who came earlier"
    assert not line.submit(job()), "nor for somebody who has just come"
    assert line.submit(job(), first)
    line.senders.remove(first)
    assert line.due() == []


def test_one_who_leaves_with_its_turn_leaves_it_to_the_next() -> None:
    line = Line(1, 1, 1)
    first, second = Flag(), Flag()
    line.receivers += [first, second]
    line.submit(job("it"))
    started = line.start()
    assert started is not None
    line.finish(Result(started.context, []))
    assert line.due() == [first]
    line.receivers.remove(first)
    assert line.due() == [second]
    result = line.receive(second)
    assert result is not None
    assert result.context == "it"


def test_a_failure_is_raised_after_what_was_finished_and_the_first_one_stays() -> None:
    line = Line(2, 2, 1)
    line.submit(job(1))
    line.submit(job(2))
    line.start()
    line.finish(Result(1, []))
    line.fail(SessionTerminated("first"))
    line.fail(SessionTerminated("second"))
    assert line.start() is None
    assert line.receive() is not None
    for call in (line.receive, lambda: line.submit(job())):
        with pytest.raises(SessionTerminated, match="first"):
            call()


def test_nothing_is_received_from_a_closed_receiver() -> None:
    line = Line(2, 2, 2)
    line.submit(job(1))
    line.submit(job(2))
    advance(line)
    line.finish(Result(1, []))
    line.hang_up()
    line.finish(Result(2, []))
    with pytest.raises(ReceiverClosed):
        line.receive()


@pytest.mark.parametrize("seed", range(200))
def test_no_sequence_of_events_loses_a_job_or_strands_a_waiter(seed: int) -> None:
    rng = random.Random(seed)
    sizes = [rng.randint(1, 3) for _ in range(3)]
    line = Line(*sizes)
    senders: dict[Flag, Job] = {}
    receivers: list[Flag] = []
    running: list[Job] = []
    submitted = 0
    accepted: set[object] = set()
    received: list[object] = []

    def settle() -> None:
        """Who is told tries again, as the shell has it; whoever is left must really have to wait."""
        while True:
            running.extend(advance(line))
            for flag in [flag for flag in senders if flag.is_set]:
                waiting = senders.pop(flag)
                assert line.submit(waiting, flag)
                accepted.add(waiting.context)
                line.senders.remove(flag)
                break
            else:
                for flag in [flag for flag in receivers if flag.is_set]:
                    receivers.remove(flag)
                    result = line.receive(flag)
                    assert result is not None
                    received.append(result.context)
                    line.receivers.remove(flag)
                    break
                else:
                    return

    for _ in range(120):
        event = rng.choice(("submit", "submit", "finish", "finish", "receive", "leave"))
        if event == "submit":
            submitted += 1
            if line.submit(job(submitted)):
                accepted.add(submitted)
            else:
                flag = Flag()
                senders[flag] = job(submitted)
                line.senders.append(flag)
        elif event == "finish" and running:
            line.finish(Result(running.pop(rng.randrange(len(running))).context, []))
        elif event == "receive":
            result = line.receive()
            if result is not None:
                received.append(result.context)
            else:
                receivers.append(Flag())
                line.receivers.append(receivers[-1])
        elif event == "leave" and senders:
            flag = rng.choice(list(senders))
            del senders[flag]
            line.senders.remove(flag)
        settle()
        assert len(running) <= sizes[2]
        assert len(line._finished) + len(running) <= sizes[1] + sizes[2]
        assert len(line._queued) <= sizes[0]
        assert not senders or len(line._queued) == sizes[0]
        assert not receivers or not line._finished
    for flag in senders:
        line.senders.remove(flag)
    for flag in receivers:
        line.receivers.remove(flag)
    line.close()
    with pytest.raises(SessionClosed):
        line.submit(job())
    while True:
        running.extend(advance(line))
        if running:
            line.finish(Result(running.pop().context, []))
            continue
        try:
            result = line.receive()
        except Drained:
            break
        assert result is not None
        received.append(result.context)
    assert sorted(map(str, received)) == sorted(map(str, accepted))
    assert len(received) == len(accepted)
