"""furiosa-dra-driver: publishes the cores of this node to the scheduler, and prepares what claims get."""

import argparse
import asyncio
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from furiosa.agent import Node, run_program
from furiosa.agent.program import LEVELS
from furiosa.dra.api_server import ApiError, ApiServer
from furiosa.dra.claims import Claims, NotPrepared
from furiosa.dra.publisher import Publisher
from furiosa.dra.service import SUPPORTED, Driver
from furiosa.dra.slices import DRIVER, Devices
from furiosa.kubelet import DRA_PLUGIN, Plugin, keep_found

PLUGINS: Final = Path("/var/lib/kubelet/plugins")
REGISTRY: Final = Path("/var/lib/kubelet/plugins_registry")
CDI: Final = Path("/var/run/cdi")


@dataclass(frozen=True, slots=True)
class Settings:
    node: str
    devices: Devices = Devices.PARTITIONS
    plugins: Path = PLUGINS
    registry: Path = REGISTRY
    cdi: Path = CDI


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="furiosa-dra-driver",
        description="Offer the NPU cores of this node to Kubernetes by dynamic resource allocation.",
        allow_abbrev=False,
    )
    made.add_argument(
        "--node-name",
        default=os.environ.get("NODE_NAME", ""),
        help="this node's name in the cluster (default: $NODE_NAME)",
    )
    made.add_argument(
        "--devices",
        choices=[each.value for each in Devices],
        default=Devices.PARTITIONS.value,
        help="what of a card: partitions, each core and both fused, which needs shared counters; or only"
        " whole cards, or only single cores (default: partitions)",
    )
    for flag, default, what in (
        ("--plugins-dir", PLUGINS, "the kubelet's folder of plugins"),
        ("--plugins-registry-dir", REGISTRY, "where it looks for them"),
        ("--cdi-dir", CDI, "where container runtimes look for CDI files"),
    ):
        made.add_argument(
            flag, type=Path, default=default, metavar="DIR", help=f"{what} (default: {default})"
        )
    made.add_argument("--log-level", choices=LEVELS, default="info", help="default: info")
    return made


async def serve(settings: Settings, server: ApiServer) -> None:
    """Until it is cancelled."""
    node = Node("furiosa-dra-driver")
    claims = Claims(node, server, settings.node, settings.cdi)
    driver = Driver(claims, node, settings.node)
    folder = settings.plugins / DRIVER
    async with server, asyncio.TaskGroup() as group:
        group.create_task(node.run())
        await _reconciled(node, claims)
        folder.mkdir(parents=True, exist_ok=True)
        group.create_task(Publisher(node, server, settings.node, lambda: settings.devices).run())
        plugin = Plugin(DRIVER, driver.add, DRIVER)
        await keep_found(
            plugin, DRA_PLUGIN, SUPPORTED, settings.registry, _ignore, folder / "dra.sock"
        )


async def _reconciled(node: Node, claims: Claims) -> None:
    """Before the kubelet may ask: what is reserved from before has its files."""
    while True:
        version = node.version
        if not node.state.is_away and node.grants is not None:
            try:
                await claims.reconcile(node.state.reservations, node.grants)
            except NotPrepared as exc:
                raise OSError(str(exc)) from None
            return
        await node.newer(version)


def _ignore(is_registered: bool) -> None:
    """The log has it."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0 after SIGTERM or SIGINT, 1 outside of a cluster, 2 for bad arguments."""
    args = parser().parse_args(arguments)
    if not args.node_name:
        sys.stderr.write("furiosa-dra-driver: --node-name is not given, and NODE_NAME not set\n")
        return 2
    settings = Settings(
        args.node_name,
        Devices(args.devices),
        args.plugins_dir,
        args.plugins_registry_dir,
        args.cdi_dir,
    )
    try:
        server = ApiServer.in_cluster()
    except ApiError as exc:
        sys.stderr.write(f"furiosa-dra-driver: {exc}\n")
        return 1
    run_program(serve(settings, server), args.log_level)
    return 0
