"""The arguments."""

import argparse
import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from furiosa.exporter.families import Naming
from furiosa.exporter.sampler import What
from furiosa.kubelet.pod_resources import DEFAULT_SOCKET

PORT: Final = 6254
LEVELS: Final = ("debug", "info", "warning", "error")


class BadArguments(Exception):
    """The text says what was wrong and what would be right."""


@dataclass(frozen=True, slots=True)
class CommandLine:
    """`address`: empty for all of this machine. `pod_resources`: None without labels of pods."""

    what: What
    address: str
    port: int
    pod_resources: Path | None
    log_level: str


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="furiosa-npu-metrics-exporter",
        description="Tell Prometheus what the NPUs of this node do, at /metrics.",
        allow_abbrev=False,
    )
    made.add_argument(
        "--port", default=str(PORT), help=f"where it listens; 0: any (default: {PORT})"
    )
    made.add_argument(
        "--listen-address",
        default="",
        metavar="ADDRESS",
        help="of this machine, e.g. 127.0.0.1 (default: all)",
    )
    made.add_argument(
        "--interval",
        default="10",
        metavar="SECONDS",
        help="from one look at the cards to the next (default: 10)",
    )
    made.add_argument(
        "--node-name",
        metavar="NAME",
        help="this node's name (default: NODE_NAME, or the host's name)",
    )
    made.add_argument(
        "--kube-resources-label",
        action="store_true",
        help="say which namespace, pod and container has a core",
    )
    made.add_argument(
        "--enable-npu-utilization",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="read the cores' performance counters each second, for utilization and cycles (default: on)",
    )
    made.add_argument(
        "--metric-naming",
        choices=[naming.value for naming in Naming],
        default=Naming.WARBOY.value,
        help="labels and units of which generation of exporters (default: warboy)",
    )
    made.add_argument(
        "--pod-resources-socket",
        type=Path,
        default=DEFAULT_SOCKET,
        metavar="FILE",
        help=f"where the kubelet tells which pods have what (default: {DEFAULT_SOCKET})",
    )
    made.add_argument(
        "--log-level", choices=LEVELS, default="info", help="how much is logged (default: info)"
    )
    return made


def parse(arguments: Sequence[str], environ: Mapping[str, str] = os.environ) -> CommandLine:
    """Raises: BadArguments; SystemExit for --help and unknown arguments."""
    given = parser().parse_args(arguments)
    name = given.node_name or environ.get("NODE_NAME") or socket.gethostname()
    if not name.isprintable():
        raise BadArguments(f"the node's name is {name!a}, expected printable text")
    what = What(
        name, _seconds(given.interval), Naming(given.metric_naming), given.enable_npu_utilization
    )
    socket_path = given.pod_resources_socket if given.kube_resources_label else None
    return CommandLine(what, given.listen_address, _port(given.port), socket_path, given.log_level)


def _port(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) > 65_535:
        raise BadArguments(f"--port is {text!r}, expected 0 to 65535")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 1 <= seconds <= 3600:
        raise BadArguments(f"--interval is {text!r}, expected seconds, 1 to 3600")
    return seconds
