"""What the kubelet has written down of the devices that it gave to pods.

The file is the kubelet's own affair: its form has changed before, and it is written when devices are given
and not when pods end. So what it says is only ever a reason to wait, and what it does not say means nothing.
Source: kubernetes, pkg/kubelet/cm/devicemanager/checkpoint.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

NAME: Final = "kubelet_internal_checkpoint"  # in the device-plugins folder
MOST_BYTES: Final = 16 * 1024**2


def noted_ids(folder: Path) -> Mapping[str, frozenset[str]]:
    """By resource, ids of devices, also of init containers. Empty where there is nothing to be made out."""
    try:
        with (folder / NAME).open("rb") as file:
            data = file.read(MOST_BYTES + 1)
        entries = json.loads(data)["Data"]["PodDeviceEntries"]
        found: dict[str, frozenset[str]] = {}
        for entry in entries:
            resource = str(entry["ResourceName"])
            ids = frozenset(_texts(entry["DeviceIDs"]))
            found[resource] = found.get(resource, frozenset()) | ids
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return {}
    return found


def _texts(ids: Any) -> Iterator[str]:
    """A list of them, or lists of them by NUMA node."""
    if isinstance(ids, str):
        yield ids
    elif isinstance(ids, Mapping):
        yield from _texts(list(ids.values()))
    else:
        for each in ids:
            yield from _texts(each)
