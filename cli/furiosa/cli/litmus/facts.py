"""What a bug report says of the machine, the SDK and the model. Source: command reference 4.6."""

import hashlib
import os
import platform
import sys
import time
from collections.abc import Mapping
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from furiosa.common.build import VERSION
from furiosa.device.errors import DeviceError
from furiosa.device.sync import DeviceSync, list_devices
from furiosa.tools.compiler.version import version_dict

Facts = Mapping[str, Any]  # of numbers, texts and mappings, in the published order


def all_facts(model: Path) -> Facts:
    """As of now. Raises: OSError when the model cannot be read."""
    package = {"version": VERSION.version, "stage": VERSION.stage, "hash": VERSION.hash}
    return {
        "sdk": {"compiler": version_dict(), "runtime": package, "quantizer": dict(package)},
        "environment": _environment(),
        "os": _system(),
        "cpu": {
            "cores": os.cpu_count(),
            "memory": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        },
        "model": _file(model),
        "devices": _devices(),
        "compiler_config": {},
    }


def _environment() -> Facts:
    return {
        "python": " ".join(sys.version.split()),
        "glibc": platform.libc_ver()[1],
        "libonnxruntime": version("onnx"),  # the published key of this package's version
        "datetime": datetime.now().isoformat(),
        "timezone": str(time.tzname),
    }


def _system() -> Facts:
    try:
        release = platform.freedesktop_os_release()
    except OSError:
        release = {}
    return {
        "platform": platform.platform(),
        "distrib": release.get("ID", ""),
        "distrib_release": release.get("VERSION_ID", ""),
        "kernel": f"{platform.release()} / {platform.version()}",
    }


def _file(path: Path) -> Facts:
    with path.open("rb") as file:
        status = os.fstat(file.fileno())
        digest = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False))
    return {
        "filename": path.name,
        "size": status.st_size,
        "md5": digest.hexdigest(),
        "created_at": {
            "datetime": datetime.fromtimestamp(status.st_mtime).isoformat(),
            "timezone": str(time.tzname),
        },
    }


def _devices() -> Facts:
    """None where nobody can be asked: what is wrong with that is what the last step says."""
    try:
        return {device.name(): _device(device) for device in list_devices()}
    except DeviceError:
        return {}


def _device(device: DeviceSync) -> Facts:
    number, _, revision = device.firmware_version().partition(", ")
    return {
        "serial_number": device.device_sn(),
        "uuid": device.device_uuid(),
        "pci_dev": device.pci_dev(),
        "firmware": {"version": number, "rev": revision},
    }
