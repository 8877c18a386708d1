"""What is behind which path."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Final

from furiosa.common.errors import FuriosaError
from furiosa.http import Answer, Page
from furiosa.telemetry.broker_link import BrokerLink
from furiosa.telemetry.exposition import render

METRICS_SECONDS: Final = 5.0  # half of what Prometheus waits by default
HEALTH_SECONDS: Final = 1.0  # a loop that is slower than this is as good as dead


def pages(broker: BrokerLink) -> Mapping[str, Answer]:
    async def metrics(accept: str) -> Page:
        try:
            content, content_type = render(await broker.metrics(METRICS_SECONDS), accept)
        except FuriosaError as error:
            return _unavailable(error)
        return Page(HTTPStatus.OK, content, content_type)

    async def health(accept: str) -> Page:
        try:
            await broker.unready(HEALTH_SECONDS)
        except FuriosaError as error:
            return _unavailable(error)
        return Page.of(HTTPStatus.OK, "ok")

    async def ready(accept: str) -> Page:
        try:
            cause = await broker.unready(HEALTH_SECONDS)
        except FuriosaError as error:
            return _unavailable(error)
        if cause:
            return Page.of(HTTPStatus.SERVICE_UNAVAILABLE, cause)
        return Page.of(HTTPStatus.OK, "ready")

    return {"/metrics": metrics, "/healthz": health, "/readyz": ready}


def _unavailable(error: FuriosaError) -> Page:
    return Page.of(HTTPStatus.SERVICE_UNAVAILABLE, str(error))
