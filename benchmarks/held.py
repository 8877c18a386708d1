"""What a lease costs with 10,000 others held: in this process, by the arbiter itself, its journal on.

They need 5,000 cards of two cores, more than a broker emulates.
"""

import asyncio
import contextlib
import secrets
import socket
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from benchmarks.efforts import Effort
from benchmarks.figures import Figure, beside
from benchmarks.size import TARGET, specs
from furiosa.broker.arbiter import Arbiter, Workers
from furiosa.broker.changes import Changes
from furiosa.broker.journal import Journal
from furiosa.broker.lease import Card, Claim, Pools
from furiosa.broker.observers import Log
from furiosa.broker.owners import identify
from furiosa.broker.sessions import Session
from furiosa.common.names import DeviceFile
from furiosa.common.selector import DeviceSpec

CARDS = 5_000
FEW_CARDS = 8
CLAIM = Claim("benchmark")


def figures(effort: Effort) -> Iterator[Figure]:
    yield from asyncio.run(_measure(effort))


async def _measure(effort: Effort) -> list[Figure]:
    async with _node(CARDS, 2 * CARDS - 1) as many, _node(FEW_CARDS, 1) as few:
        return [await _compare(name, many, few, effort) for name in specs(CARDS)]


async def _compare(name: str, many: "_Node", few: "_Node", effort: Effort) -> Figure:
    ours, theirs = [], []
    for _ in range(effort.rounds):
        ours.append(await many.cycle(name))
        theirs.append(await few.cycle(name))
    return beside(
        f"acquire.held.10000_leases.{name}",
        ours,
        theirs,
        unit="us",
        against=f"the same with one lease held on {FEW_CARDS} cards",
        target=TARGET,
        conditions=f"arbiter and journal alone; {specs(CARDS)[name]} gets the only free core",
    )


class _Node:
    def __init__(self, arbiter: Arbiter, session: Session, cards: int) -> None:
        self._arbiter = arbiter
        self._session = session
        self._specs = {name: DeviceSpec.parse(spec) for name, spec in specs(cards).items()}

    async def acquire(self, name: str) -> str:
        spec = self._specs[name]
        return (await self._arbiter.request(self._session, spec, 0.0, CLAIM)).lease.id

    async def release(self, lease: str) -> None:
        await self._arbiter.release(self._session, lease)

    async def cycle(self, name: str) -> float:
        """Microseconds."""
        before = time.perf_counter_ns()
        await self.release(await self.acquire(name))
        return (time.perf_counter_ns() - before) / 1000


@contextlib.asynccontextmanager
async def _node(cards: int, held: int) -> AsyncIterator[_Node]:
    """`held` of its cores are leased, and never the one that has a name in `specs`."""
    with contextlib.ExitStack() as stack:
        ours, _theirs = map(stack.enter_context, socket.socketpair())
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="furiosa-bench-")))
        owner = identify(ours)
        stack.callback(owner.close)
        journal = Journal(folder / "journal")
        journal.recover()
        stack.callback(journal.close)
        session = Session(1, owner, "benchmark", lambda notice: None, "token")
        node = _Node(_arbiter(cards, journal), session, cards)
        kept_free = await node.acquire("named")
        for _ in range(held):
            await node.acquire("any")
        await node.release(kept_free)
        yield node


def _arbiter(cards: int, journal: Journal) -> Arbiter:
    """With `cards` cards of two cores, and workers that stop at once."""
    workers = Workers(lambda lease, stopped: stopped(), lambda lease: None)
    table = Pools(map(_card, range(cards)), lambda: secrets.token_hex(6))
    return Arbiter(table, journal, workers, Log(), clock=time.monotonic, changes=Changes())


def _card(npu: int) -> Card:
    names = (f"npu{npu}", f"npu{npu}pe0", f"npu{npu}pe1", f"npu{npu}pe0-1")
    return Card(npu, 2, tuple(map(DeviceFile.parse, names)))
