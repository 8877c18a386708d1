from typing import Any

import pytest

from furiosa.common.errors import BadDeviceSpec
from furiosa.common.selector import DeviceSpec
from furiosa.runtime import FuriosaRuntimeError
from furiosa.runtime._core.selection import device_text, parse, target_of

BOTH = {"FURIOSA_DEVICES": "npu:0:0", "NPU_DEVNAME": "npu1pe0"}


@pytest.mark.parametrize(
    ("device", "environ", "expected"),
    [
        ("npu:3:0", BOTH, ("npu:3:0", "argument")),
        (None, BOTH, ("npu:0:0", "FURIOSA_DEVICES")),
        (None, {"NPU_DEVNAME": "npu1pe0"}, ("npu1pe0", "NPU_DEVNAME")),
        (None, {}, ("warboy(2)*1", "default")),
        (None, {**BOTH, "FURIOSA_DEVICES_X": "npu2"}, ("npu:0:0", "FURIOSA_DEVICES")),
        (
            None,
            {"FURIOSA_DEVICES_B": "npu2", "NPU_DEVNAME": "npu3", "FURIOSA_DEVICES_A": "npu1pe0-1"},
            ("npu1pe0-1,npu2", "FURIOSA_DEVICES_A, FURIOSA_DEVICES_B"),
        ),
        (None, {"FURIOSA_DEVICES": "", "NPU_DEVNAME": "npu1pe0"}, ("", "FURIOSA_DEVICES")),
    ],
)
def test_r86_the_first_source_that_is_set_wins(
    device: str | None, environ: dict[str, str], expected: tuple[str, str]
) -> None:
    assert device_text(device, environ) == expected


def test_text_of_a_variable_is_refused_with_its_name() -> None:
    with pytest.raises(
        FuriosaRuntimeError, match=r"given message gpu0: .* \(from FURIOSA_DEVICES\)$"
    ):
        parse(*device_text(None, {"FURIOSA_DEVICES": "gpu0"}))


@pytest.mark.parametrize("device", [0, DeviceSpec.parse("npu:0"), b"npu:0"])
def test_a_device_is_named_by_text(device: Any) -> None:
    with pytest.raises(TypeError, match="device: expected a str, found "):
        device_text(device, {})


def test_text_outside_the_grammar_is_refused_with_the_published_prefix() -> None:
    with pytest.raises(
        FuriosaRuntimeError, match=r"^Failed to parse given message warboy: "
    ) as caught:
        parse("warboy")
    assert isinstance(caught.value.__cause__, BadDeviceSpec)


@pytest.mark.parametrize(
    ("spec", "target"),
    [
        ("npu:0:1", "warboy"),
        ("warboy*2", "warboy"),
        ("warboy(1)*1,npu0pe0", "warboy"),
        ("npu:0:0-1", "warboy-2pe"),
        ("warboy(2)*4", "warboy-2pe"),
        ("npu0", "warboy-2pe"),
    ],
)
def test_r86_the_target_fits_the_devices(spec: str, target: str) -> None:
    assert target_of(parse(spec)) == target


def test_single_and_fused_cores_do_not_mix() -> None:
    with pytest.raises(
        FuriosaRuntimeError, match=r"^warboy\(1\)\*1,npu:1:0-1 mixes single and fused"
    ):
        target_of(parse("warboy*1,npu:1:0-1"))
