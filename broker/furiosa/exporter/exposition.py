"""Metrics as Prometheus reads them: the text format, and OpenMetrics.

The published names of counters do not end in _total, as OpenMetrics demands of counters. So that a metric
has one name whatever the scraper asks for, they are of unknown type there, which rules nothing out.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Final

from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

_OPENMETRICS: Final = "application/openmetrics-text"
_UNTYPED: Final = re.compile(rb"^(# TYPE (\w+)) untyped$", re.MULTILINE)


class Exposition:
    """Written once in each format, when it is first asked for."""

    def __init__(self, metrics: Sequence[Metric]) -> None:
        self._metrics = metrics
        self._written: dict[bool, bytes] = {}

    def render(self, accept: str) -> tuple[bytes, str]:
        """The page and its content type: OpenMetrics where `accept` names it, else the text format."""
        is_open = _OPENMETRICS in accept
        # Only that much of a stranger's header is believed: the rest would come back in ours.
        encode, content_type = choose_encoder(f"{_OPENMETRICS}; version=1.0.0" if is_open else "")
        if is_open not in self._written:
            page = encode(_Metrics(self._metrics))
            self._written[is_open] = page if is_open else self._typed(page)
        return self._written[is_open], content_type

    def _typed(self, page: bytes) -> bytes:
        """The library would put _total to a counter's name here too. No label value begins a line."""
        counters = {metric.name.encode() for metric in self._metrics if metric.type == "counter"}
        return _UNTYPED.sub(lambda m: m[1] + b" counter" if m[2] in counters else m[0], page)


class _Metrics(Collector):
    def __init__(self, metrics: Sequence[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        for metric in self._metrics:
            kind = "unknown" if metric.type == "counter" else metric.type
            copy = Metric(metric.name, metric.documentation, kind)
            copy.samples = metric.samples
            yield copy
