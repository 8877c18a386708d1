"""From no device to some. Blocking; both modules have these under the published names."""

import os
from typing import TypeVar

from furiosa.device._core.config import DeviceConfig
from furiosa.device._core.files import DeviceFile
from furiosa.device._core.finding import find
from furiosa.device._core.values import CoreStatusType
from furiosa.device._device import Device
from furiosa.device._source import source
from furiosa.device.errors import DeviceNotFound

_D = TypeVar("_D", bound=Device)


def devices(kind: type[_D]) -> list[_D]:
    """By index; none is no error."""
    asked = source(os.environ)
    return [kind(asked, card) for card in asked.cards()]


def device(kind: type[_D], idx: int) -> _D:
    """Raises: DeviceNotFound."""
    for found in devices(kind):
        if found.device_index() == idx:
            return found
    raise DeviceNotFound(f"Device npu{idx} not found")


def device_file(device_name: str) -> DeviceFile:
    """Raises: DeviceNotFound; IncompatibleDriver; IoError, also when somebody has it."""
    asked = source(os.environ)
    name = asked.named(device_name)
    return DeviceFile(name, asked.path(name))


def device_files(config: DeviceConfig) -> list[DeviceFile]:
    """Raises: DeviceNotFound, DeviceBusy."""
    asked = source(os.environ)
    cards = asked.cards()
    available = {
        (card.index, core): status.status_type is CoreStatusType.Available
        for card in cards
        for core, status in asked.statuses(card).items()
    }
    names = [file for card in cards for file in card.device_files]
    found = find(config.wanted, names, available)
    return [DeviceFile(name, asked.path(name)) for name in found]
