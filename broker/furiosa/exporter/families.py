"""Samples of cards under their published names, in two generations that differ in labels and units. PURE.

Source: Kubernetes reference 4 (Warboy generation) and 5.1 (later generation).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

from prometheus_client.metrics_core import Metric

from furiosa.exporter.card_sample import CardSample
from furiosa.exporter.holders import Container, Holding
from furiosa.sysfs import Card, Kind

Labels = Mapping[str, str]
NO_LABELS: Final[Labels] = {}


class Naming(Enum):
    """The generation of exporters whose labels and units are used."""

    WARBOY = "warboy"
    LATER = "later"


@dataclass(frozen=True, slots=True)
class NodeSample:
    """`holdings`: by index of the card, of containers of pods."""

    node: str
    has_broker: bool
    cards: tuple[CardSample, ...]
    holdings: Mapping[int, tuple[Holding, ...]]


@dataclass(frozen=True, slots=True)
class Unit:
    """What a value as the card has it is divided by, and what it is in then."""

    divisor: int
    text: str


@dataclass(frozen=True, slots=True)
class Hardware:
    """`later`: the sensors which that generation shows, by label; the others it has not. None: all."""

    name: str
    text: str
    units: Mapping[Naming, Unit]
    later: Mapping[str, str] | None


HARDWARE: Final[Mapping[Kind, Hardware]] = {
    Kind.TEMPERATURE: Hardware(
        "furiosa_npu_hw_temperature",
        "Temperature of a component",
        {Naming.WARBOY: Unit(1, "millidegrees Celsius"), Naming.LATER: Unit(1000, "degrees Celsius")},
        {"Peak": "peak", "AMBIENT": "ambient"},
    ),
    Kind.POWER: Hardware(
        "furiosa_npu_hw_power",
        "Momentary power",
        {Naming.WARBOY: Unit(1, "microwatts"), Naming.LATER: Unit(1_000_000, "watts")},
        {"PCI Total RMS PWR": "rms"},
    ),
    Kind.VOLTAGE: Hardware(
        "furiosa_npu_hw_voltage",
        "Momentary voltage",
        {Naming.WARBOY: Unit(1, "millivolts"), Naming.LATER: Unit(1000, "volts")},
        None,
    ),
    Kind.CURRENT: Hardware(
        "furiosa_npu_hw_current",
        "Momentary current",
        {Naming.WARBOY: Unit(1, "milliamperes"), Naming.LATER: Unit(1000, "amperes")},
        None,
    ),
}  # fmt: skip


def families(sample: NodeSample, naming: Naming) -> tuple[Metric, ...]:
    """Without two samples of the same labels, whatever cards say."""
    found = _Families()
    for card in sample.cards:
        holdings = sample.holdings.get(card.card.index, ())
        common = _LABELS[naming](card.card, sample.node)
        for labels in _card_wise(card.card, holdings, common, naming):
            _add_card(found, card, labels, naming)
        for core in card.card.cores:
            for labels in _core_wise(core, holdings, common):
                _add_core(found, card, core, labels)
    found.add(
        "furiosa_npu_exporter_broker_up",
        "1 when these values are from the broker, 0 when it does not answer",
        {"node": sample.node} if sample.node else NO_LABELS,
        int(sample.has_broker),
    )
    return found.all()


class _Families:
    def __init__(self) -> None:
        self._metrics: dict[str, Metric] = {}
        self._seen: set[tuple[str, frozenset[tuple[str, str]]]] = set()

    def add(
        self, name: str, text: str, labels: Labels, value: float | None, kind: str = "gauge"
    ) -> None:
        """Of several samples of the same labels the first counts: two would spoil the page."""
        key = name, frozenset(labels.items())
        if value is None or key in self._seen:
            return
        self._seen.add(key)
        if name not in self._metrics:
            self._metrics[name] = Metric(name, text, kind)
        self._metrics[name].add_sample(name, dict(labels), value)

    def all(self) -> tuple[Metric, ...]:
        return tuple(self._metrics.values())


def _add_card(found: _Families, card: CardSample, labels: Labels, naming: Naming) -> None:
    found.add("furiosa_npu_alive", "1 when the card works", labels, int(card.is_alive))
    uptime = "Seconds since the card was started"
    found.add("furiosa_npu_uptime", uptime, labels, card.uptime_seconds)
    for kind, count in card.errors.items():
        text = "How often the card has seen an error of each kind"
        found.add("furiosa_npu_error", text, {**labels, "label": kind}, count)
    for sensor, hardware in HARDWARE.items():
        unit = hardware.units[naming]
        renamed = hardware.later if naming is Naming.LATER else None
        for label, value in card.sensors[sensor]:
            if renamed is None or label in renamed:
                shown = label if renamed is None else renamed[label]
                text = f"{hardware.text}, in {unit.text}"
                scaled = value if unit.divisor == 1 else value / unit.divisor
                found.add(hardware.name, text, {**labels, "label": shown}, scaled)


def _add_core(found: _Families, card: CardSample, core: int, labels: Labels) -> None:
    clock = "Clock of the core, in megahertz"
    found.add("furiosa_npu_core_frequency", clock, labels, card.core_megahertz)
    use = card.cores.get(core)
    if use is None:
        return
    busy = None if use.utilization is None else 100 * use.utilization
    text = "Share of the last interval in which the core ran programs, in percent"
    found.add("furiosa_npu_core_utilization", text, labels, busy)
    text = "Cycles of the core while it was in use"
    found.add("furiosa_npu_total_cycle_count", text, labels, use.cycles, "counter")
    text = "Cycles of the core in which a program ran"
    found.add("furiosa_npu_task_execution_cycle", text, labels, use.task_cycles, "counter")


def _card_wise(
    card: Card, holdings: Sequence[Holding], common: Labels, naming: Naming
) -> Iterator[Labels]:
    """The card; as its holders' when they have all of it. Then each part of it that somebody has."""
    cores = {"core": _range(card.cores)} if naming is Naming.LATER else NO_LABELS
    whole = [held for held in holdings if held.cores == card.cores]
    for held in whole:
        yield {**common, **cores, **_pod(held.container)}
    if not whole:
        yield {**common, **cores}
    for held in holdings:
        if held not in whole:
            yield {**common, "core": _range(held.cores), **_pod(held.container)}


def _core_wise(core: int, holdings: Sequence[Holding], common: Labels) -> Iterator[Labels]:
    holders = [held.container for held in holdings if core in held.cores]
    for container in holders:
        yield {**common, "core": str(core), **_pod(container)}
    if not holders:
        yield {**common, "core": str(core)}


def _pod(container: Container) -> Labels:
    return {
        "namespace": container.namespace,
        "pod": container.pod,
        "container": container.name,
    }


def _range(cores: Sequence[int]) -> str:
    """E.g. 0, 0-7."""
    if len(cores) > 1 and tuple(cores) == tuple(range(cores[0], cores[-1] + 1)):
        return f"{cores[0]}-{cores[-1]}"
    return ",".join(map(str, cores))


def _warboy_labels(card: Card, node: str) -> Labels:
    return {"device": f"npu{card.index}", "node": node}


def _later_labels(card: Card, node: str) -> Labels:
    return {
        "arch": card.architecture.value,
        "device": f"npu{card.index}",
        "uuid": card.uuid,
        "pci_bus_id": card.pci_bdf,
        "firmware_version": card.firmware_version,
        "pert_version": "",  # firmware that a Warboy has not
        "driver_version": card.driver_version,
        "hostname": node,
        "kubernetes_node_name": node,
    }


_LABELS: Final = {Naming.WARBOY: _warboy_labels, Naming.LATER: _later_labels}
