"""`python -m furiosa.dataplane --socket PATH --broker-fd N`: started by the broker, ends with it."""

import os

os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"  # before gRPC is imported: nothing here forks

import argparse
import asyncio
import logging
import signal
import socket
from pathlib import Path
from typing import Final

import grpc

from furiosa.dataplane import privileges
from furiosa.dataplane.ports import Ports
from furiosa.dataplane.service import InferenceService
from furiosa.proto.broker.v1 import inference_pb2_grpc

GRACE_SECONDS: Final = 2.0  # for calls in progress when asked to end
MAX_CALLS: Final = 1024  # at once; what one of them holds in memory is bounded by the message size

_OPTIONS: Final = (
    ("grpc.so_reuseport", 0),  # a second server on our address must fail, not share it
    ("grpc.server.max_pending_requests", 20_000),  # the default drops calls at random past 1,000
    ("grpc.server.max_pending_requests_hard_limit", 20_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.max_send_message_length", -1),
)


async def serve(path: Path, mode: int, broker: socket.socket, user: str, max_bytes: int) -> None:
    """Until the broker hangs up or SIGTERM. Raises: OSError when the socket cannot be made."""
    stop = asyncio.Event()
    grace = GRACE_SECONDS

    def orphaned() -> None:
        """Leave at once: gRPC removes the socket when it ends, which may soon be a successor's."""
        nonlocal grace
        grace = 0.0
        stop.set()

    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    ports = Ports(broker, orphaned)
    server = grpc.aio.server(
        options=(*_OPTIONS, ("grpc.max_receive_message_length", max_bytes)),
        maximum_concurrent_rpcs=MAX_CALLS,
    )
    inference_pb2_grpc.add_InferenceServicer_to_server(InferenceService(ports), server)
    path.unlink(missing_ok=True)  # left by one before us; the broker's lock says it is not in use
    before = os.umask(0o777 & ~mode)
    try:
        if server.add_insecure_port(f"unix:{path}") == 0:
            raise OSError(f"cannot listen on {path}")
    finally:
        os.umask(before)
    privileges.drop(user)
    await server.start()
    ports.hello("furiosa-dataplane")
    await stop.wait()
    await server.stop(grace)
    ports.close()


def main() -> None:
    parser = argparse.ArgumentParser(description="Inference over gRPC, for furiosa-brokerd.")
    parser.add_argument("--socket", type=Path, required=True, help="Unix socket to listen on")
    parser.add_argument("--broker-fd", type=int, required=True, help="inherited socket")
    parser.add_argument(
        "--socket-mode", type=lambda text: int(text, 8), default=0o660, help="octal"
    )
    parser.add_argument("--user", default="nobody", help="whom to become when started as root")
    parser.add_argument("--max-message-bytes", type=int, default=256 * 1024**2)
    arguments = parser.parse_args()
    logging.basicConfig(format="%(asctime)s %(levelname)s %(process)d %(name)s: %(message)s")
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the broker, which then decides
    privileges.keep_freed_memory()
    broker = socket.socket(fileno=arguments.broker_fd)
    asyncio.run(
        serve(
            arguments.socket,
            arguments.socket_mode,
            broker,
            arguments.user,
            arguments.max_message_bytes,
        )
    )


if __name__ == "__main__":
    main()
