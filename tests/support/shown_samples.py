"""Samples as a broker's answers make them, and a source that tells them when a test says so."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from textual.app import App

from furiosa.cli.broker import Broker
from furiosa.cli.monitor.sample import Sample
from furiosa.cli.monitor.source import Listener, Lost, Source
from furiosa.common.names import DeviceFile
from furiosa.common.views import (
    CoreState,
    CoreView,
    DeviceView,
    LeaseOverview,
    LeaseView,
    OwnerView,
    UtilizationView,
    WaiterView,
)
from support.shown_devices import ShownBroker, a_device, a_lease

NOW = 1_000_100.0


def a_use(file: str, fraction: float) -> UtilizationView:
    parsed = DeviceFile.parse(file)
    return UtilizationView(
        parsed, 10**9, fraction, 1.0, 0.0, 4242, "python3 app.py", int(NOW * 1e9)
    )


def a_card(index: int, *held: str, **changes: object) -> DeviceView:
    """`held`: for each of its two cores the file it is held through, or nothing."""
    files = [DeviceFile.parse(file) if file else None for file in (*held, "", "")[:2]]
    cores = tuple(
        CoreView(core, CoreState.OCCUPIED if file else CoreState.AVAILABLE, file)
        for core, file in enumerate(files)
    )
    return a_device(index, cores=cores, **changes)


def a_waiter(position: int = 1, **changes: object) -> WaiterView:
    fields: dict[str, object] = {
        "position": position,
        "device_spec": "warboy(2)*1",
        "tenant": "uid:1001",
        "priority": 0,
        "owner": OwnerView(7, 1001, 1001, 77, "train --epochs 3"),
        "since": NOW - 65,
        "deadline": None,
        "reason": "npu0pe0 is held by lease 5f3a",
        "session": 3,
    }
    return WaiterView(**{**fields, **changes})  # type: ignore[arg-type]  # a builder: fields by name


def a_sample(
    *devices: DeviceView,
    leases: tuple[LeaseView, ...] = (),
    waiters: tuple[WaiterView, ...] = (),
    uses: tuple[UtilizationView, ...] = (),
    **changes: object,
) -> Sample:
    sample = Sample(NOW, devices, LeaseOverview(leases, waiters, 1), (), uses)
    return replace(sample, **changes)  # type: ignore[arg-type]  # a builder: fields by name


def two_cards() -> Sample:
    """One core of npu0 is held, and npu1 as a whole; one request waits."""
    return a_sample(
        a_card(0, "npu0pe0"),
        a_card(1, "npu1pe0-1", "npu1pe0-1"),
        leases=(
            a_lease("aaaa", device_files=(DeviceFile.parse("npu1pe0-1"),)),
            a_lease(
                "bbbb",
                device_files=(DeviceFile.parse("npu0pe0"),),
                owner=OwnerView(5151, 1001, 1001, 78, "serve --models /etc/識別"),
                ends_at=NOW + 90,
                tenant="uid:1001",
            ),
        ),
        waiters=(a_waiter(),),
        uses=(a_use("npu0pe0", 0.25), a_use("npu1pe0-1", 1.0)),
    )


class HeldSource(Source):
    """Asks nobody by itself; `broker` gets what the view has it do."""

    def __init__(self, broker: ShownBroker | None = None) -> None:
        self.broker = broker or ShownBroker()
        super().__init__(self.broker, 1000)
        self.is_paused = False
        self.listener: Listener = lambda news: None

    def start(self, listener: Listener) -> None:
        self.listener = listener

    def pause(self, paused: bool) -> None:
        self.is_paused = paused

    def tell(self, news: Sample | Lost) -> None:
        self.listener(news)

    def act(self, action: Callable[[Broker], str]) -> str:
        return action(self.broker)


def screen(app: App[Any]) -> list[str]:
    """The lines that a terminal would show, without blanks at their ends."""
    strips = app.screen._compositor.render_strips()
    return [strip.text.rstrip() for strip in strips]
