"""furiosa-npu-metrics-exporter: serves what the cards of this node say until it is told to stop."""

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
from collections.abc import Sequence

from furiosa.common.errors import FuriosaError
from furiosa.exporter.command_line import BadArguments, CommandLine, parse
from furiosa.exporter.sampler import Sampler
from furiosa.exporter.sources import Sources
from furiosa.http import HttpServer
from furiosa.kubelet import PodResources

log = logging.getLogger(__name__)


def listen(address: str, port: int) -> socket.socket:
    """Raises: OSError."""
    if address:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        return socket.create_server((address, port), family=family)
    if socket.has_dualstack_ipv6():
        return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True)
    return socket.create_server(("", port))


async def serve(line: CommandLine, sources: Sources, listener: socket.socket) -> None:
    """Until SIGTERM or SIGINT. Takes the listener."""
    running = asyncio.current_task()
    assert running is not None
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, running.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(sources.close)
            pods = None
            if line.pod_resources is not None:
                pods = await stack.enter_async_context(PodResources(line.pod_resources))
            sampler = Sampler(line.what, sources, pods)
            await sampler.once()  # who comes meanwhile waits to be accepted
            await stack.enter_async_context(HttpServer(sampler.pages()).serve(listener))
            host, port, *_ = listener.getsockname()
            shown = f"[{host}]" if ":" in host else host
            log.info("metrics at http://%s:%d/metrics", shown, port)
            await sampler.run()
    log.info("stopped")


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0 after SIGTERM or SIGINT, 2 for bad arguments or an address that cannot be had."""
    try:
        line = parse(sys.argv[1:] if arguments is None else arguments)
        sources = Sources.of(os.environ)
        listener = listen(line.address, line.port)
    except (BadArguments, FuriosaError) as exc:
        sys.stderr.write(f"furiosa-npu-metrics-exporter: {exc}\n")
        return 2
    except OSError as exc:
        wanted = f"--listen-address {line.address or 'of all'}, --port {line.port}"
        sys.stderr.write(f"furiosa-npu-metrics-exporter: {wanted}: {exc.strerror or exc}\n")
        return 2
    logging.basicConfig(
        level=line.log_level.upper(),
        format="%(asctime)s %(levelname)s %(message)s",
        stream=sys.stderr,
    )
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # of a kubelet that is away it says a lot
    asyncio.run(serve(line, sources, listener))
    return 0
