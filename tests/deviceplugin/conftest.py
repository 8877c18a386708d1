from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from furiosa.client import Connection
from furiosa.deviceplugin.main import DevicePlugin
from furiosa.deviceplugin.settings import Naming, Policy, Settings
from support.daemon import Daemon
from support.kubelet.fake import FakeKubelet
from support.kubelet.fixtures import Start, kubelet, quick, short_path, start

if TYPE_CHECKING:
    import asyncio

__all__ = ["kubelet", "quick", "short_path", "start"]

Run = Callable[..., "asyncio.Task[object]"]


@pytest.fixture
def daemon(monkeypatch: pytest.MonkeyPatch) -> Iterator[Daemon]:
    made = Daemon(2, "--health-recovery", "0.2")
    made.start()
    monkeypatch.setenv("FURIOSA_BROKER", made.environ["FURIOSA_BROKER"])
    yield made
    made.stop()


@pytest.fixture
def run(daemon: Daemon, kubelet: FakeKubelet, start: Start) -> Run:
    def run(
        policy: Policy = Policy.WHOLE, file: Path | None = None, **changes: object
    ) -> "asyncio.Task[object]":
        naming = Naming.CORES if policy is Policy.DYNAMIC else Naming.ORIGINAL
        settings = Settings(
            policy,
            naming=naming,
            interval=0.02,
            plugin_dir=kubelet.device_plugins,
            registry_dir=kubelet.plugins_registry,
            pod_resources=kubelet.pod_resources,
        )
        return start(DevicePlugin(replace(settings, **changes), file, "node").run())  # type: ignore[arg-type]  # of the test

    return run


@pytest.fixture
async def broker(daemon: Daemon) -> AsyncIterator[Connection]:
    async with await Connection.open(client="test") as connection:
        yield connection
