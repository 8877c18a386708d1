"""From the broker's numbers to what Prometheus reads.

The numbers come as JSON, a list of families, each [name, kind, help, label names, samples]. A sample of a
counter or gauge is [label values, value]; of a histogram, [label values, [[bound, count so far], ...], sum],
where a bound is the text of its `le`.
"""

import json
from collections.abc import Iterator
from typing import Any, Final

from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

_FAMILIES: Final[dict[str, Any]] = {
    "counter": CounterMetricFamily,
    "gauge": GaugeMetricFamily,
    "histogram": HistogramMetricFamily,
}
_OPENMETRICS: Final = "application/openmetrics-text"


def render(numbers: bytes, accept: str) -> tuple[bytes, str]:
    """The page and its content type: OpenMetrics where `accept` names it, else the text format.

    Raises: ValueError, KeyError, TypeError for what is not such JSON.
    """
    # Only that much of a stranger's header is believed: the rest would come back in ours.
    encode, content_type = choose_encoder(
        f"{_OPENMETRICS}; version=1.0.0" if _OPENMETRICS in accept else ""
    )
    return encode(_Numbers(numbers)), content_type


class _Numbers(Collector):
    def __init__(self, numbers: bytes) -> None:
        self._families = json.loads(numbers)

    def collect(self) -> Iterator[Metric]:
        for name, kind, documentation, labels, samples in self._families:
            family = _FAMILIES[kind](name, documentation, labels=labels)
            for values, *numbers in samples:
                family.add_metric(values, *numbers)
            yield family
