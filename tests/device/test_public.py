"""What the package has for those who import it."""

import re
import subprocess
import sys

import pytest

from furiosa import device
from furiosa.device import errors, sync

TWINS = {"Fetcher", "__version__", "__full_version__"}, {"DeviceSync", "FetcherSync"}


def test_the_names_of_both_modules() -> None:
    assert set(device.__all__) - set(sync.__all__) == TWINS[0]
    assert set(sync.__all__) - set(device.__all__) == TWINS[1]
    functions = {"list_devices", "get_device", "get_device_file", "find_device_files"}
    for name in set(device.__all__) & set(sync.__all__):
        same = getattr(device, name) is getattr(sync, name)
        assert same is (name not in functions), name


def test_version_texts() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+-\w+ \(rev: [0-9a-f]{9}\)", str(device.__version__))
    native = r"\(native \d+\.\d+\.\d+ [0-9a-f]{9} \S+Z\)"
    assert re.fullmatch(
        rf"Furiosa SDK Device {re.escape(str(device.__version__))} {native}",
        device.__full_version__,
    )


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("PermissionDenied: no", errors.PermissionDenied),
        ("Unknown architecture, arch: X, rev: Y", errors.UnknownArch),
        ("Incompatible device driver: x is not a valid device file", errors.IncompatibleDriver),
        ("HwmonError: [npu0] no", errors.HwmonError),
        ("PerformanceCounterError: This device is not in use", errors.PerformanceCounterError),
        ("Unexpected value: no", errors.UnexpectedValue),
        ("IoError: no", errors.IoError),
    ],
)
def test_each_text_has_its_class(text: str, kind: type[errors.DeviceError]) -> None:
    error = errors.of_text(text)
    assert type(error) is kind
    assert str(error) == text


def test_a_blocking_program_imports_neither_event_loop_nor_grpc() -> None:
    code = "import sys, furiosa.device.sync; print({'asyncio', 'anyio', 'grpc', 'onnx'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
