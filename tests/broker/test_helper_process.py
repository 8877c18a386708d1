"""A helper that does not behave: everything about one that does is tested with the helpers there are."""

import asyncio
import os
from pathlib import Path

import pytest

from furiosa.broker import helper_process
from furiosa.broker.helper_process import HelperProcess
from support.waiting import until


@pytest.fixture
def mute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> HelperProcess:
    """Never says hello."""
    (tmp_path / "mute.py").write_text("import time\ntime.sleep(600)\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return HelperProcess("helper", "mute", (), {})


def children() -> list[str]:
    """Processes of this one, but for those that others have started."""
    folder = Path(f"/proc/self/task/{os.getpid()}/children")
    return [pid for pid in folder.read_text().split() if b"mute" in _command(pid)]


def _command(pid: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


async def test_one_that_is_given_up_while_it_starts_leaves_nothing(mute: HelperProcess) -> None:
    running = asyncio.create_task(mute.run())
    await until(lambda: bool(children()))
    await asyncio.sleep(0)
    running.cancel()
    await asyncio.wait((running,))
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert children() == []
    assert not mute.is_ready


async def test_one_that_never_gets_ready_is_ended_and_nobody_waits_for_it_longer(
    mute: HelperProcess, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(helper_process, "READY_SECONDS", 0.05)
    running = asyncio.create_task(mute.run())
    await mute.wait_ready()
    assert not mute.is_ready
    await until(lambda: 'helper.ended cause="was not ready within 0.05 s"' in caplog.messages)
    running.cancel()
    await asyncio.wait((running,))
    assert children() == []
