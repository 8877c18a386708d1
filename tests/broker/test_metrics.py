import asyncio
import dataclasses
import os
from collections.abc import Iterable
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from furiosa.broker import metrics as metrics_module
from furiosa.broker.metrics import MAX_TENANTS, Gauges, Metrics
from furiosa.common.names import DeviceFile
from furiosa.common.views import (
    Architecture,
    Availability,
    CoreState,
    CoreView,
    DeviceView,
    Health,
    LeaseState,
    Origin,
)
from furiosa.telemetry.exposition import render

Samples = dict[tuple[str, ...], float]


def a_card(index: int, **changes: Any) -> DeviceView:
    cores = (CoreView(0, CoreState.OCCUPIED), CoreView(1, CoreState.AVAILABLE))
    texts = ("",) * 6
    card = DeviceView(
        *(index, Architecture.WARBOY, Origin.EMULATED, Health.ALIVE, *texts, 0),
        *(41_500, 9_250_000, cores, ()),
    )
    return dataclasses.replace(card, **changes)


async def no_cards() -> Iterable[DeviceView]:
    return ()


NOTHING = Gauges(
    leases=lambda: (),
    waiting=lambda: (),
    devices=no_cards,
    core_seconds=dict,
    sessions=lambda: 0,
    journal_bytes=lambda: 0,
    dropped_log_lines=lambda: 0,
    card_errors=dict,
)


async def shown(metrics: Metrics) -> Samples:
    """What Prometheus gets to see, by name and the values of its labels, in the order of their names."""
    page, _ = render(await metrics.numbers(), "")
    return {
        (sample.name.removeprefix("furiosa_broker_"), *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(page.decode())
        for sample in family.samples
    }


async def test_what_happens_is_counted() -> None:
    metrics = Metrics(NOTHING)
    metrics.granted("a", 0.002)
    metrics.granted("a", 45.0)
    metrics.granted("b", 0.0)
    metrics.refused("DEVICE_BUSY")
    metrics.ended("released", 90.0)
    metrics.ended("expired", 10.0)
    metrics.worker_died(DeviceFile.parse("npu0pe0-1"))
    metrics.journal_synced(0.5)
    found = await shown(metrics)
    assert {key: value for key, value in found.items() if key[0].endswith("_total")} == {
        ("grants_total", "a"): 2, ("grants_total", "b"): 1,
        ("refusals_total", "DEVICE_BUSY"): 1,
        ("ended_total", "released"): 1, ("ended_total", "expired"): 1,
        ("worker_restarts_total", "npu0pe0-1"): 1,
        ("log_dropped_lines_total",): 0,
        ("process_cpu_seconds_total",): found["process_cpu_seconds_total",],
    }  # fmt: skip
    assert found["grant_wait_seconds_sum",] == pytest.approx(45.002)
    assert found["journal_fsync_seconds_count",] == 1
    held = {key[1]: value for key, value in found.items() if key[0] == "lease_held_seconds_bucket"}
    assert (held["1"], held["10"], held["60"], held["300"], held["+Inf"]) == (0, 1, 1, 2, 2)


async def test_the_present_is_read_when_asked_for() -> None:
    async def devices() -> Iterable[DeviceView]:
        return (
            a_card(0),
            a_card(1, temperature_millicelsius=None, power_microwatts=None),
            a_card(2, availability=Availability.CORDONED),
            a_card(3, health=Health.DEAD, cores=(CoreView(0, CoreState.UNAVAILABLE),)),
        )

    found = await shown(
        Metrics(
            Gauges(
                leases=lambda: (
                    ("a", LeaseState.GRANTED, 2),
                    ("a", LeaseState.GRANTED, 1),
                    ("a", LeaseState.REVOKING, 1),
                    ("b", LeaseState.GRANTED, 1),
                ),
                waiting=lambda: ("a", "c", "a"),
                devices=devices,
                core_seconds=lambda: {(0, 1): 2.5},
                sessions=lambda: 7,
                journal_bytes=lambda: 4096,
                dropped_log_lines=lambda: 3,
                card_errors=lambda: {(1, "device_error"): 4},
            )
        )
    )
    expected = {
        ("leases", "granted", "a"): 2, ("leases", "revoking", "a"): 1, ("leases", "granted", "b"): 1,
        ("lease_cores", "a"): 4, ("lease_cores", "b"): 1,
        ("waiters", "a"): 2, ("waiters", "c"): 1,
        ("core_busy_seconds_total", "1", "0"): 2.5,  # core, npu
        ("card_errors_total", "device_error", "1"): 4,  # kind, npu
        ("cores", "occupied"): 3, ("cores", "available"): 3, ("cores", "unavailable"): 1,
        ("card_available", "0"): 1, ("card_available", "1"): 1,
        ("card_available", "2"): 0, ("card_available", "3"): 0,
        ("card_temperature_celsius", "0"): 41.5, ("card_power_watts", "2"): 9.25,
        ("sessions",): 7, ("journal_bytes",): 4096, ("log_dropped_lines_total",): 3,
    }  # fmt: skip
    assert {key: found.get(key) for key in expected} == expected
    assert ("card_temperature_celsius", "1") not in found
    assert found["process_open_fds",] > 0
    assert found["process_resident_memory_bytes",] > 1e6


async def test_tenants_beyond_a_bound_share_one_name() -> None:
    names = [f"uid:{n}" for n in range(MAX_TENANTS + 10)]
    metrics = Metrics(dataclasses.replace(NOTHING, waiting=lambda: names))
    for name in names:
        metrics.granted(name, 0.0)
    metrics.granted(names[0], 0.0)
    found = await shown(metrics)
    grants = {key[1]: value for key, value in found.items() if key[0] == "grants_total"}
    assert len(grants) == MAX_TENANTS + 1
    assert (grants["uid:0"], grants["other"]) == (2, 10)
    assert found["waiters", "other"] == 10


async def test_cards_that_do_not_answer_hold_up_nothing_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(metrics_module, "SENSOR_SECONDS", 0.01)
    readings = 0
    answer = asyncio.Event()

    async def devices() -> Iterable[DeviceView]:
        nonlocal readings
        readings += 1
        await answer.wait()
        return (a_card(0),)

    metrics = Metrics(dataclasses.replace(NOTHING, devices=devices, sessions=lambda: 1))
    for _ in range(3):
        found = await shown(metrics)
        assert ("card_available", "0") not in found
        assert found["sessions",] == 1
    assert readings == 1
    answer.set()
    assert (await shown(metrics))["card_available", "0"] == 1
    assert readings == 1
    await shown(metrics)
    assert readings == 2


async def test_without_a_descriptor_left_the_rest_is_still_shown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def exhausted(*_: object) -> None:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(os, "listdir", exhausted)
    found = await shown(Metrics(NOTHING))
    assert ("process_open_fds",) not in found
    assert found["sessions",] == 0
