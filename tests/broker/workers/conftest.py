from collections.abc import AsyncIterator

import pytest

from support.leaks import nothing_left_open
from support.workers import Bench, a_pool, children, fake_engines


@pytest.fixture
async def bench(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bench]:
    """With engines that do as they are told; nothing may be left of it."""
    processes = children()
    with nothing_left_open():
        async with a_pool(**fake_engines(monkeypatch), max_programs=3, max_queues=2) as bench:
            yield bench
    assert children() == processes
