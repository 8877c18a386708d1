"""What depends on the journal, let go of when that is safe."""

import asyncio
from pathlib import Path

from furiosa.broker.journal import Journal, Sync
from furiosa.broker.syncing import Syncing


async def test_one_that_fails_leaves_no_other_without_an_answer(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal", sync=Sync.ALWAYS)
    journal.recover()
    syncing = Syncing(journal, lambda _: None)
    failures: list[BaseException] = []
    asyncio.get_running_loop().set_exception_handler(
        lambda _, context: failures.append(context["exception"])
    )
    told: asyncio.Future[OSError | None] = asyncio.get_running_loop().create_future()

    def broken(_: OSError | None) -> None:
        raise ZeroDivisionError

    syncing.then(broken)
    syncing.then(told.set_result)
    assert await asyncio.wait_for(told, 10) is None
    assert [type(failure) for failure in failures] == [ZeroDivisionError]
    journal.close()
