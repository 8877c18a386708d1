"""Pages of metrics, asked for over HTTP and read by the parsers of prometheus_client."""

import asyncio
import socket
import urllib.request
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from furiosa.http import Answer, HttpServer

OPENMETRICS = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;q=0.3"
Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def key(name: str, **labels: str) -> tuple[str, frozenset[tuple[str, str]]]:
    return name, frozenset(labels.items())


def samples(page: str, accept: str = "") -> Samples:
    """No two have the same name and labels."""
    parse: Any = parse_openmetrics if "openmetrics" in accept else parse_text
    found: Samples = {}
    for family in parse(page):
        for sample in family.samples:
            # the parser of the text format puts _total to what is a counter, whatever its name is
            name = family.name if family.type == "counter" else sample.name
            at = key(name, **sample.labels)
            assert at not in found
            found[at] = sample.value
    return found


def get(url: str, accept: str = "") -> str:
    """Raises: urllib.error.HTTPError."""
    request = urllib.request.Request(url, headers={"Accept": accept})
    with urllib.request.urlopen(request, timeout=60) as answer:
        page: bytes = answer.read()
    return page.decode()


@asynccontextmanager
async def served(pages: Mapping[str, Answer]) -> AsyncIterator[str]:
    """Where they are."""
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    async with HttpServer(pages).serve(listener):
        yield f"http://127.0.0.1:{port}"


async def scraped(url: str, accept: str = "") -> Samples:
    return samples(await asyncio.to_thread(get, f"{url}/metrics", accept), accept)
