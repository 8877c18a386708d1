"""Which device files a configuration means, of those there are. Source: devices reference 5.3."""

from collections.abc import Iterable, Mapping, Sequence

from furiosa.common.names import DeviceFile
from furiosa.device._core.config import Wanted
from furiosa.device._core.files import mode_of
from furiosa.device.errors import DeviceBusy, DeviceNotFound

Available = Mapping[tuple[int, int], bool]  # by card and core


def find(
    wanted: Iterable[Wanted], files: Sequence[DeviceFile], available: Available
) -> list[DeviceFile]:
    """In the order of `wanted`, named ones first.

    Raises: DeviceNotFound when there are fewer than asked for that do not overlap; DeviceBusy when there
    are enough, but not enough of them whose cores are all available.
    """
    chosen: list[DeviceFile] = []
    for item in sorted(wanted, key=lambda item: item.file is None):
        there = [
            file
            for file in files
            if _fits(item, file) and not any(file.overlaps(other) for other in chosen)
        ]
        if len(there) < item.count:
            raise DeviceNotFound(f"Device {item.text} not found")
        free = [file for file in there if _is_free(file, available)]
        if len(free) < item.count:
            raise DeviceBusy(f"Device {item.text} found but still in use")
        chosen += _first(free, item)
    return chosen


def _first(free: list[DeviceFile], item: Wanted) -> list[DeviceFile]:
    """As many as asked for, by card and cores, none of which overlaps another."""
    found: list[DeviceFile] = []
    for file in sorted(free, key=lambda file: (file.npu, file.cores.first, file.cores.last)):
        if len(found) < item.count and not any(file.overlaps(other) for other in found):
            found.append(file)
    if len(found) < item.count:
        raise DeviceNotFound(f"Device {item.text} not found")
    return found


def _fits(item: Wanted, file: DeviceFile) -> bool:
    if item.file is not None:
        return file == item.file
    return mode_of(file) is item.mode


def _is_free(file: DeviceFile, available: Available) -> bool:
    return all(
        free for (npu, core), free in available.items() if npu == file.npu and core in file.cores
    )
