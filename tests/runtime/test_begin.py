"""Devices asked for, and runners that fail to begin, in both styles."""

import logging
from typing import Any

import pytest

from furiosa.common.errors import (
    BrokerUnavailable,
    InvalidProgram,
    LeaseEnded,
    UnknownDevice,
)
from furiosa.runtime import (
    FuriosaRuntimeError,
)
from furiosa.runtime._core.errors import DeviceBusy
from support.fake_connection import FakeNpu
from support.runners import ENF
from support.twins import Twin

# --- failing to begin


async def test_a_busy_device(npu: FakeNpu, twin: Twin) -> None:
    npu.busy = True
    with pytest.raises(DeviceBusy, match="held by pid 4711"):
        await twin.create_runner(ENF)
    assert npu.hung_up == 1


@pytest.mark.parametrize(
    "error", [InvalidProgram("magic", "it is short"), UnknownDevice("npu:9"), LeaseEnded("l", "c")]
)
async def test_a_load_that_fails_leaves_nothing(npu: FakeNpu, twin: Twin, error: Exception) -> None:
    npu.load_error = error  # type: ignore[assignment]  # one of ours
    with pytest.raises(FuriosaRuntimeError) as caught:
        await twin.create_runner(ENF)
    assert caught.value.__cause__ is error
    assert npu.released == ["lease-1"]
    assert npu.hung_up == 1


async def test_one_queue_that_cannot_be_opened_closes_the_others(npu: FakeNpu, twin: Twin) -> None:
    npu.files = ("npu0pe0", "npu0pe1")
    npu.no_queue_on = "npu0pe1"
    with pytest.raises(FuriosaRuntimeError, match="the worker of npu0pe1 died"):
        await twin.create_runner(ENF, device="warboy(1)*2")
    assert len(npu.queues_closed) == 1
    assert npu.unloaded == [1]
    assert npu.servers == {}


async def test_no_broker(npu: FakeNpu, twin: Twin) -> None:
    npu.die()
    with pytest.raises(FuriosaRuntimeError, match=r"^no broker at unix:/fake: ") as caught:
        await twin.create_runner(ENF)
    assert isinstance(caught.value.__cause__, BrokerUnavailable)


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        ({"device": "warboy"}, FuriosaRuntimeError),
        ({"device": 0}, TypeError),
        ({"worker_num": 0}, ValueError),
        ({"worker_num": "2"}, TypeError),
        ({"batch_size": 2}, FuriosaRuntimeError),
    ],
)
async def test_bad_arguments_are_found_before_anything_is_leased(
    npu: FakeNpu, twin: Twin, options: dict[str, Any], kind: type[Exception]
) -> None:
    with pytest.raises(kind) as caught:
        await twin.create_runner(ENF, **options)
    assert type(caught.value) is kind
    assert npu.acquired == []


# --- which devices


async def test_the_devices_asked_for(
    npu: FakeNpu, twin: Twin, monkeypatch: pytest.MonkeyPatch
) -> None:
    await twin.close(await twin.create_runner(ENF))
    monkeypatch.setenv("FURIOSA_DEVICES", "npu0pe0-1")
    await twin.close(await twin.create_runner(ENF))
    await twin.close(await twin.create_runner(ENF, device="npu:1"))
    assert npu.acquired == ["warboy(2)*1", "npu:0:0-1", "npu:1"]


async def test_the_old_variable_is_deprecated_in_the_log(
    npu: FakeNpu, twin: Twin, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("NPU_DEVNAME", "npu0pe0-1")
    await twin.close(await twin.create_runner(ENF))
    assert npu.acquired == ["npu:0:0-1"]
    assert [(r.levelno, r.getMessage()) for r in caplog.records if "furiosa" in r.name] == [
        (logging.WARNING, "NPU_DEVNAME will be deprecated. Use FURIOSA_DEVICES instead.")
    ]
