"""furiosa-device-plugin: offers the cores of this node to the kubelet until it is told to stop."""

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path

from furiosa.agent import Node, run_program
from furiosa.deviceplugin import config_file
from furiosa.deviceplugin.command_line import parse
from furiosa.deviceplugin.offers import resources
from furiosa.deviceplugin.reconciliation import Reconciliation
from furiosa.deviceplugin.service import Resource
from furiosa.deviceplugin.settings import BadSettings, Registration, Settings, from_mapping
from furiosa.kubelet import DEVICE_PLUGIN, Plugin, PodResources, keep_found, keep_registered


class DevicePlugin:
    """`file` is where `settings` are from, if they are from one. `node_name` is this node's."""

    def __init__(self, settings: Settings, file: Path | None, node_name: str) -> None:
        self._settings = settings
        self._file = file
        self._node_name = node_name
        self._node = Node("furiosa-device-plugin")
        self._running: dict[str, asyncio.Task[None]] = {}  # by resource

    async def run(self) -> None:
        """Until it is cancelled."""
        async with PodResources(self._settings.pod_resources) as pods:
            self._reconciliation = Reconciliation(self._node, pods, lambda: self._settings)
            async with asyncio.TaskGroup() as group:
                group.create_task(self._node.run())
                group.create_task(self._reconciliation.run())
                self._offer(group)
                if self._file is not None:
                    async for settings in config_file.changes(self._file, self._settings):
                        self._settings = settings
                        self._offer(group)
                        await self._node.touch()

    def _offer(self, group: asyncio.TaskGroup) -> None:
        """What the settings say, and nothing else."""
        wanted = resources(self._settings)
        for name in self._running.keys() - wanted:
            self._running.pop(name).cancel()
        for name in sorted(wanted - self._running.keys()):
            self._running[name] = group.create_task(self._keep(name))

    async def _keep(self, name: str) -> None:
        settings = self._settings
        resource = Resource(
            name,
            self._node,
            lambda: self._settings,
            self._node_name,
            self._reconciliation.allocated,
        )
        plugin = Plugin(
            name, resource.add, settings.socket_name, resource.streams, pre_start=True, prefers=True
        )
        if settings.registration is Registration.REGISTER:
            await keep_registered(plugin, settings.plugin_dir, _ignore)
        else:
            folder = settings.registry_dir
            await keep_found(plugin, DEVICE_PLUGIN, ["v1beta1"], folder, _ignore)


def _ignore(is_registered: bool) -> None:
    """The log has it."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0 after SIGTERM or SIGINT, 2 for bad settings."""
    try:
        line = parse(sys.argv[1:] if arguments is None else arguments)
        settings = from_mapping(line.values) if line.file is None else config_file.read(line.file)
    except BadSettings as exc:
        sys.stderr.write(f"furiosa-device-plugin: {exc}\n")
        return 2
    run_program(DevicePlugin(settings, line.file, line.node).run(), line.log_level)
    return 0
