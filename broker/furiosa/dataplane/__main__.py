"""`python -m furiosa.dataplane --socket PATH --broker-fd N`: started by the broker, ends with it."""

import os

os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"  # before gRPC is imported: nothing here forks

import argparse
import asyncio
import gc
import logging
import signal
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from furiosa.common import privileges
from furiosa.common.proof import Proving
from furiosa.dataplane.listeners import TcpListener, tcp_server, unix_server
from furiosa.dataplane.memory import keep_freed_memory
from furiosa.dataplane.ports import Ports

GRACE_SECONDS: Final = 2.0  # for calls in progress when asked to end


async def serve(
    path: Path,
    mode: int,
    broker: socket.socket,
    user: str,
    max_bytes: int,
    tcp: Sequence[TcpListener] = (),
) -> None:
    """Until the broker hangs up or SIGTERM. Raises: OSError when a socket cannot be made."""
    stop = asyncio.Event()
    grace = GRACE_SECONDS

    def orphaned() -> None:
        """Leave at once: gRPC removes the socket when it ends, which may soon be a successor's."""
        nonlocal grace
        grace = 0.0
        stop.set()

    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    ports = Ports(broker, orphaned)
    servers = [unix_server(ports, path, mode, max_bytes)]
    servers += [tcp_server(ports, listener, max_bytes)[0] for listener in tcp]
    privileges.drop(user)
    await asyncio.gather(*(server.start() for server in servers))
    ports.hello("furiosa-dataplane")
    await stop.wait()
    await asyncio.gather(*(server.stop(grace) for server in servers))
    ports.close()
    # calls that were aborted refer to themselves, and so to the servers; were these still there when the
    # process ends, TLS in gRPC would wait two seconds for them
    servers.clear()
    gc.collect()


def main() -> None:
    parser = argparse.ArgumentParser(description="Inference over gRPC, for furiosa-brokerd.")
    parser.add_argument("--socket", type=Path, required=True, help="Unix socket to listen on")
    parser.add_argument("--broker-fd", type=int, required=True, help="inherited socket")
    parser.add_argument(
        "--socket-mode", type=lambda text: int(text, 8), default=0o660, help="octal"
    )
    parser.add_argument("--user", default="nobody", help="whom to become when started as root")
    parser.add_argument(
        "--listen",
        action="append",
        default=[],
        metavar="HOST:PORT/PROOF",
        help="TCP, too; what clients prove themselves by: certificate or token",
    )
    parser.add_argument("--tls-fd", type=int, help="inherited memory with the keys for TCP")
    parser.add_argument("--max-message-bytes", type=int, default=256 * 1024**2)
    arguments = parser.parse_args()
    logging.basicConfig(format="%(asctime)s %(levelname)s %(process)d %(name)s: %(message)s")
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the broker, which then decides
    keep_freed_memory()
    broker = socket.socket(fileno=arguments.broker_fd)
    tcp = [_listener(text, arguments.tls_fd) for text in arguments.listen]
    asyncio.run(
        serve(
            arguments.socket,
            arguments.socket_mode,
            broker,
            arguments.user,
            arguments.max_message_bytes,
            tcp,
        )
    )


def _listener(text: str, keys: int | None) -> TcpListener:
    """The broker has checked it all."""
    address, _, way = text.rpartition("/")
    return TcpListener(address, Proving(way), keys)


if __name__ == "__main__":
    main()
