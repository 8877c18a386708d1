"""A lease that will be taken away: said once, and no reason to stop before it is."""

import logging

import numpy as np
import pytest

from furiosa.runtime._core.errors import SessionTerminated
from support.fake_connection import FakeNpu
from support.runners import ENF, ones
from support.twins import Twin


async def test_a_recalled_lease_works_until_it_ends(
    npu: FakeNpu, twin: Twin, caplog: pytest.LogCaptureFixture
) -> None:
    runner = await twin.create_runner(ENF)
    npu.recall_lease("maintenance", 2.5)
    with caplog.at_level(logging.WARNING, "furiosa.runtime"):
        for _ in range(3):
            assert np.array_equal((await twin.run(runner, ones()))[0], ones(2))
    assert [record.getMessage() for record in caplog.records] == [
        "lease lease-1 will be taken away in 2.5 s: maintenance"
    ]
    assert npu.loaded == [ENF]
    npu.end_lease("maintenance")
    with pytest.raises(SessionTerminated, match="lease lease-1 has ended: maintenance"):
        await twin.run(runner, ones())
    await twin.close(runner)
