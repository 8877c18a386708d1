"""What the node's cards say, looked at once in an interval: a scrape costs no look at anything."""

import asyncio
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final, NoReturn

from furiosa.common.clock import Clock
from furiosa.common.views import CardPart
from furiosa.exporter.card_sample import sample
from furiosa.exporter.core_use import READ_SECONDS, CoreUses
from furiosa.exporter.exposition import Exposition
from furiosa.exporter.families import Naming, NodeSample, families
from furiosa.exporter.holders import Holding, holdings
from furiosa.exporter.sources import Look, Sources
from furiosa.http import Answer, Page
from furiosa.kubelet import PodResources
from furiosa.kubelet.pod_resources import PodResourcesUnavailable

log = logging.getLogger(__name__)

# what is older is of another time: a scrape then fails rather than tell of it
STALE_INTERVALS: Final = 2
STALE_GRACE_SECONDS: Final = 15.0  # more than a look at both sources and the kubelet may take


@dataclass(frozen=True, slots=True)
class What:
    """`interval` in seconds; `with_use`: of cores, for which their counters are read each second."""

    node: str
    interval: float
    naming: Naming
    with_use: bool


class Sampler:
    """`run` it. `pods`: None, when nobody wants to know."""

    def __init__(
        self,
        what: What,
        sources: Sources,
        pods: PodResources | None,
        clock: Clock = time.monotonic,
    ) -> None:
        self._what = what
        self._sources = sources
        self._pods = pods
        self._clock = clock
        self._uses = CoreUses()
        self._latest: tuple[float, Exposition] | None = None  # since when
        self._complaint = ""

    async def run(self) -> NoReturn:
        """Until it is cancelled; `once` was called before."""
        while True:
            due = self._clock() + self._what.interval
            while (left := due - self._clock()) > 0:
                await asyncio.sleep(min(left, READ_SECONDS) if self._what.with_use else left)
                if self._what.with_use and self._clock() < due:
                    look = await self._sources.look((CardPart.COUNTERS,))
                    self._count(look)
            await self.once()

    async def once(self) -> None:
        """One look at everything."""
        parts = [CardPart.CARD, CardPart.SENSORS]
        if self._what.with_use:
            parts.append(CardPart.COUNTERS)
        look = await self._sources.look(parts)
        self._count(look)
        held = await self._held(look)
        now_ns = round(self._clock() * 1e9)
        cards = tuple(
            sample(seen, self._uses.take(seen.card, now_ns) if self._what.with_use else {})
            for seen in look.seen
        )
        found = NodeSample(self._what.node, look.has_broker, cards, held)
        self._latest = self._clock(), Exposition(families(found, self._what.naming))

    def pages(self) -> Mapping[str, Answer]:
        async def metrics(accept: str) -> Page:
            latest = self._fresh()
            if latest is None:
                return _STALE
            content, content_type = latest.render(accept)
            return Page(HTTPStatus.OK, content, content_type)

        async def health(accept: str) -> Page:
            return _STALE if self._fresh() is None else Page.of(HTTPStatus.OK, "ok")

        return {"/metrics": metrics, "/healthz": health}

    def _fresh(self) -> Exposition | None:
        if self._latest is None:
            return None
        since, found = self._latest
        most = STALE_INTERVALS * self._what.interval + STALE_GRACE_SECONDS
        return found if self._clock() - since <= most else None

    def _count(self, look: Look) -> None:
        for seen in look.seen:
            if CardPart.COUNTERS in seen.texts:
                self._uses.feed(seen.card, seen.texts[CardPart.COUNTERS])

    async def _held(self, look: Look) -> Mapping[int, tuple[Holding, ...]]:
        if self._pods is None:
            return {}
        try:
            listed = await self._pods.list()
        except PodResourcesUnavailable as exc:
            if str(exc) != self._complaint:
                self._complaint = str(exc)
                log.warning("which pods have what cannot be told now: %s", exc)
            return {}
        self._complaint = ""
        return holdings(listed, (seen.card for seen in look.seen))


_STALE: Final = Page.of(HTTPStatus.SERVICE_UNAVAILABLE, "no sample of late; see the log")
