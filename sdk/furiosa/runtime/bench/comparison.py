"""Two JSON reports side by side. PURE."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

_STATS: Final = (
    *("min", "max", "mean"),
    *(f"{rank} percentile" for rank in ("50th", "95th", "99th", "99.9th")),
)
_NUMBER: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)(?: us|/s)", re.ASCII)


class BadReport(ValueError):
    """A file that is no JSON report of a benchmark."""


@dataclass(frozen=True, slots=True)
class Figure:
    """`is_better`: whether the second is better; None when they are equal."""

    name: str
    unit: str
    first: float
    second: float
    is_better: bool | None

    @property
    def change(self) -> float | None:
        """From the first to the second, in percent; None when the first is 0."""
        return (self.second / self.first - 1) * 100 if self.first else None


@dataclass(frozen=True, slots=True)
class SavedReport:
    """What a JSON report says; `stats` are microseconds by name."""

    path: str
    md5: str
    mode: str
    batch: int
    queries: int
    qps: float
    stats: Mapping[str, float]

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises: BadReport."""
        try:
            content = json.loads(text)
            result, model = content["result"], content["model_data"]
            return cls(
                path=str(model["path"]),
                md5=str(model["md5"]).partition(" ")[0],
                mode=str(result["mode"]),
                batch=int(result["batch size"]),
                queries=int(result["total num queries"]),
                qps=_number(result["qps"]),
                stats={name: _number(result["latency stats"][name]) for name in _STATS},
            )
        except (ValueError, KeyError, TypeError, RecursionError) as exc:
            raise BadReport(f"no JSON report of furiosa-bench ({_reason(exc)})") from None


def differences(first: SavedReport, second: SavedReport) -> Iterator[str]:
    """What else than the speed differs, so that the figures may not be comparable."""
    if first.md5 != second.md5:
        yield f"models: {first.path}, {second.path}"
    for name, one, other in (
        ("workloads", first.mode, second.mode),
        ("batch sizes", first.batch, second.batch),
    ):
        if one != other:
            yield f"{name}: {one}, {other}"


def figures(first: SavedReport, second: SavedReport) -> Iterator[Figure]:
    """Throughput first; more of it is better, and less of a latency."""
    yield Figure("QPS", "/s", first.qps, second.qps, _better(second.qps, first.qps))
    for name in _STATS:
        one, other = first.stats[name], second.stats[name]
        yield Figure(name, "us", one, other, _better(one, other))


def _better(large: float, small: float) -> bool | None:
    return None if large == small else large > small


def _number(value: Any) -> float:
    match = _NUMBER.fullmatch(value)
    if match is None:
        raise ValueError(f"{value!r} is no figure")
    return float(match[1])


def _reason(exc: Exception) -> str:
    return f"no {exc}" if isinstance(exc, KeyError) else str(exc)
