"""Programs that share a worker: several at once, one for another, and the memory of those that are gone."""

import asyncio
import dataclasses
import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from furiosa.common.errors import LimitExceeded
from furiosa.compiler import CompilerOptions, compile
from furiosa.enf import Program, write
from furiosa.queuepair import ClientQueue, CompletionStatus, Geometry, Submission, tensor_offsets
from furiosa.vnpu import Interpreter
from support.programs import a_program, inputs_for
from support.qdq_nets import Qdq
from support.waiting import until
from support.workers import FUSED, PE0, Bench, a_pool, run

Array = npt.NDArray[Any]
MIB = 1 << 20


def large(seed: int) -> bytes:
    """32 MiB of weights."""
    net = Qdq(seed=seed)
    x = net.input(1, 4096, 1, 1)
    y = net.node("Conv", x, net.stored(8192, 4096, 1, 1, scale=0.001))
    model = net.model(net.quantized(y)).SerializeToString()
    return compile(model, CompilerOptions(target="warboy"))


def scaled(program: Program, scale: float) -> Program:
    """The same program with other answers."""
    constants = tuple(
        (array.astype(np.float32) * np.float32(scale)) if array.dtype == np.float32 else array
        for array in program.constants
    )
    return dataclasses.replace(program, constants=constants)


class Caller:
    """A queue of one client, and runs of any program of `like`'s shapes with the same input."""

    def __init__(self, queue: ClientQueue, like: Program) -> None:
        self._queue = queue
        self._runs = 0
        self._inputs = inputs_for(like, np.random.default_rng(1))
        self._offsets, self._outputs_at = tensor_offsets([x.nbytes for x in self._inputs])
        self._specs = like.output_specs
        for x, offset in zip(self._inputs, self._offsets, strict=True):
            queue.arena[offset : offset + x.nbytes] = x.reshape(-1).view(np.uint8)

    def expected(self, program: Program) -> list[Array]:
        return Interpreter(program).run(self._inputs)

    async def run(self, program: int) -> list[Array]:
        self._runs += 1
        self._queue.arena[self._outputs_at :] = 0xA5
        done = await run(self._queue, Submission(self._runs, program, 0, self._outputs_at))
        assert done.status is CompletionStatus.OK
        offsets, _ = tensor_offsets([spec.nbytes for spec in self._specs])
        return [
            self._queue.arena[self._outputs_at + offset :][: spec.nbytes]
            .view(spec.dtype.numpy)
            .reshape(spec.shape)
            .copy()
            for spec, offset in zip(self._specs, offsets, strict=True)
        ]


async def a_caller(bench: Bench, like: Program) -> Caller:
    _, descriptors = await bench.pool.open_queue("a", PE0, Geometry(4, 1 << 16))
    return Caller(ClientQueue.attach(descriptors), like)


def equal(found: list[Array], expected: list[Array]) -> None:
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


async def test_resident_programs_run_in_turn_from_several_queues_with_their_own_answers() -> None:
    program = a_program(target="warboy", host=True)
    programs = [scaled(program, scale) for scale in (1.0, 0.5, 0.25)]
    async with a_pool() as bench:
        views = [await bench.load("a", write(one)) for one in programs]
        callers = [await a_caller(bench, program) for _ in range(2)]
        answers = [callers[0].expected(one) for one in programs]
        assert len({b"".join(a.tobytes() for a in answer) for answer in answers}) == 3
        for _ in range(3):
            for view, answer in zip(views, answers, strict=True):
                for found in await asyncio.gather(*(caller.run(view.id) for caller in callers)):
                    equal(found, answer)


async def test_a_program_is_replaced_while_others_run() -> None:
    program = a_program(target="warboy")
    old, new, other = (scaled(program, scale) for scale in (1.0, 0.5, 0.25))
    async with a_pool() as bench:
        await bench.load("a", write(old))
        kept = await bench.load("a", write(other))
        mine, others = [await a_caller(bench, program) for _ in range(2)]
        answer = others.expected(other)
        runs, stop = 0, asyncio.Event()

        async def keep_running() -> None:
            nonlocal runs
            while not stop.is_set():
                equal(await others.run(kept.id), answer)
                runs += 1

        async with asyncio.TaskGroup() as group:
            group.create_task(keep_running())
            current = 1
            for replacement in (new, old, new):
                ran = runs
                equal(await mine.run(current), mine.expected(old if replacement is new else new))
                view = await bench.load("a", write(replacement))
                await bench.pool.unload("a", current)
                current = view.id
                await until(lambda ran=ran: runs > ran)  # type: ignore[misc]
            stop.set()
        equal(await mine.run(current), mine.expected(new))


@pytest.mark.parametrize("file", [PE0, FUSED])
async def test_programs_have_the_memory_of_their_file_and_no_more(file: Any) -> None:
    target = "warboy" if file is PE0 else "warboy-2pe"
    program = dataclasses.replace(a_program(target=target), dram_bytes=900 * MIB)
    enf = write(program)
    async with a_pool(memory_bytes=2000 * MIB) as bench:
        first = await bench.load("a", enf, file)
        await bench.load("a", enf, file)
        with pytest.raises(LimitExceeded) as refused:
            await bench.load("a", enf, file)
        size, limit = program.device_bytes, 2000 * MIB
        assert (
            f"asks for {size}, {limit - 2 * size} are free beside program 1 with {size}, "
            in str(refused.value)
        )
        await bench.pool.unload("a", first.id)
        await bench.load("a", enf, file)


def pages_of(pid: int) -> tuple[int, int]:
    """Bytes of address space, and bytes in memory that no file or arena is."""
    size, resident, shared, *_ = map(int, Path(f"/proc/{pid}/statm").read_text().split())
    page = os.sysconf("SC_PAGE_SIZE")
    return size * page, (resident - shared) * page


async def test_the_memory_of_a_program_is_given_back_when_it_is_unloaded() -> None:
    enf, after = large(1), []
    async with a_pool() as bench:
        for _ in range(4):
            queue = await bench.queue("a", geometry=Geometry(4, 1 << 16))
            view = await bench.load("a", enf)
            done = await run(queue, Submission(1, view.id, 0, 4096))
            assert done.status is CompletionStatus.OK
            held = pages_of(bench.pid())[1]
            await bench.pool.unload("a", view.id)
            after.append(pages_of(bench.pid())[1])
            assert held - after[-1] > 30 * MIB
            queue.close()
    assert max(after) - after[0] < 4 * MIB


async def test_an_arena_is_no_longer_mapped_when_its_queue_is_closed() -> None:
    arena = 64 * MIB
    program = a_program(target="warboy")
    async with a_pool() as bench:
        view = await bench.load("a", write(program))
        before = pages_of(bench.pid())[0]
        for _ in range(3):
            number, descriptors = await bench.pool.open_queue("a", PE0, Geometry(4, arena))
            queue = ClientQueue.attach(descriptors)
            await Caller(queue, program).run(view.id)
            assert pages_of(bench.pid())[0] - before >= arena
            await bench.pool.close_queue("a", number)
            queue.close()
            assert pages_of(bench.pid())[0] - before < arena // 4
