from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from furiosa.client import Connection
from support.fake_broker import FakeBroker, fake_broker
from support.held import Held, echo, listing
from support.leaks import nothing_left_open

BACKENDS = ("asyncio", "trio")


@pytest.fixture
def held() -> Held:
    return Held()


@pytest.fixture
def broker(held: Held) -> Iterator[FakeBroker]:
    answers = fake_broker(
        Devices_Utilization=echo,
        Leases_List=listing,
        Leases_Acquire=held.acquire,
        Leases_Release=held.release,
        Leases_Watch=held.watch,
        cancel=held.cancel,
        Session_LoadProgram=held.load,
        Programs_Unload=held.unload,
        Session_OpenQueue=held.open_queue,
        Session_CloseQueue=held.close_queue,
    )
    with nothing_left_open(), answers as broker:
        yield broker


@pytest.fixture(params=BACKENDS)
def run(request: pytest.FixtureRequest, broker: FakeBroker) -> Callable[[Any], None]:
    """Runs a coroutine function on a connection, with nobody else in the loop."""

    def run(test: Callable[[Connection], Awaitable[None]]) -> None:
        async def main() -> None:
            with anyio.fail_after(60):
                async with await Connection.open(broker.address, client="t") as connection:
                    await test(connection)

        anyio.run(main, backend=request.param)

    return run
