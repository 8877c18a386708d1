"""Runners of a fake NPU that doubles its input: what to run, and whether it works."""

from typing import Any

import anyio
import numpy as np

from furiosa.common.model_limits import ENF_MAGIC
from furiosa.runtime import (
    FuriosaRuntimeError,
)
from support.fake_connection import FakeNpu, X
from support.twins import Twin

ENF = ENF_MAGIC + b"program"

GONE = "no broker at unix:/fake: it closed the connection"


def ones(value: float = 1) -> Any:
    return np.full(X.shape, value, np.float32)


async def works(twin: Twin, runner: Any) -> bool:
    (output,) = await twin.run(runner, ones(3))
    return np.array_equal(output, ones(6))


async def failures(twin: Twin, npu: FakeNpu, runner: Any, happens: Any) -> list[Exception]:
    """What three runs in flight raise when something happens."""
    raised: list[Exception] = []

    async def run() -> None:
        try:
            await twin.run(runner, ones())
        except FuriosaRuntimeError as error:
            raised.append(error)

    npu.hold()
    async with anyio.create_task_group() as group:
        for _ in range(3):
            group.start_soon(run)
        runs = runner._loaded._deployments[0].runs
        while len(runs._owned) < 3:
            await anyio.lowlevel.checkpoint()
        happens()
    npu.go.set()
    return raised


async def waits(loaded: Any) -> None:
    """Until somebody waits for the broker to come back."""
    while not loaded._holding._claim._naps:
        await anyio.lowlevel.checkpoint()
