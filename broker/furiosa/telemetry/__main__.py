"""`python -m furiosa.telemetry --listen-fd N --broker-fd N`: started by the broker, ends with it."""

import argparse
import asyncio
import logging
import signal
import socket

from furiosa.common import privileges
from furiosa.http import HttpServer
from furiosa.telemetry.broker_link import BrokerLink
from furiosa.telemetry.pages import pages


async def serve(listener: socket.socket, broker: socket.socket) -> None:
    """Until the broker hangs up or SIGTERM. Takes the sockets."""
    link = BrokerLink(broker)
    running = asyncio.create_task(link.run())
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, running.cancel)
    async with HttpServer(pages(link)).serve(listener):
        await asyncio.wait((running,))
    if not running.cancelled():
        running.result()


def main() -> None:
    parser = argparse.ArgumentParser(description="Metrics and health, for furiosa-brokerd.")
    parser.add_argument("--listen-fd", type=int, required=True, help="inherited, listening")
    parser.add_argument("--broker-fd", type=int, required=True, help="inherited socket")
    parser.add_argument("--user", default="nobody", help="whom to become when started as root")
    arguments = parser.parse_args()
    logging.basicConfig(format="%(asctime)s %(levelname)s %(process)d %(name)s: %(message)s")
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the broker, which then decides
    privileges.drop(arguments.user)
    listener = socket.socket(fileno=arguments.listen_fd)
    asyncio.run(serve(listener, socket.socket(fileno=arguments.broker_fd)))


if __name__ == "__main__":
    main()
