"""What was measured, for as many samples as a wide terminal shows."""

from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Final

from furiosa.cli.monitor.sample import Sample

SAMPLES: Final = 512  # of each series; a column of a sparkline shows one


@dataclass(slots=True)
class History:
    """Series by card and core number, oldest first. A value that a card did not give is None.

    A card that is no longer there takes its series with it: what comes back under its number may be another.
    """

    _series: dict[Hashable, deque[float | None]] = field(default_factory=dict)

    def record(self, sample: Sample) -> None:
        """`sample` measured a whole window."""
        values: dict[Hashable, float | None] = {}
        for device in sample.devices:
            npu = device.index
            values["use", npu] = sample.card_use(device)
            values["celsius", npu] = _thousandth(device.temperature_millicelsius)
            for core in device.cores:
                values["core", npu, core.core] = sample.core_use(npu, core.core)
        for gone in self._series.keys() - values.keys():
            del self._series[gone]
        for key, value in values.items():
            self._series.setdefault(key, deque(maxlen=SAMPLES)).append(value)

    def card_use(self, npu: int) -> tuple[float | None, ...]:
        """Fractions."""
        return self._get("use", npu)

    def core_use(self, npu: int, core: int) -> tuple[float | None, ...]:
        """Fractions."""
        return self._get("core", npu, core)

    def celsius(self, npu: int) -> tuple[float | None, ...]:
        return self._get("celsius", npu)

    def _get(self, *key: Hashable) -> tuple[float | None, ...]:
        return tuple(self._series.get(key, ()))


def _thousandth(value: int | None) -> float | None:
    return None if value is None else value / 1e3
