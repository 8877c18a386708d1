"""Resize: nearest is onnxruntime's to the bit, linear to within the rounding of its float sums."""

from typing import Any

import pytest

from support.stored_models import Net, check, opcodes

MODES = ["asymmetric", "half_pixel", "pytorch_half_pixel", "align_corners"]
NEWER = ["half_pixel_symmetric"]  # from opset 19 on
OLDER = ["tf_half_pixel_for_nn"]  # up to opset 12
ROUNDINGS = ["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"]
SIZES = [(12, 10), (9, 13), (3, 2), (1, 1), (7, 5)]  # of an image of 6 x 5


def resized(
    mode: str,
    size: tuple[int, int] | None = None,
    scales: tuple[float, float] | None = None,
    *,
    opset: int = 17,
    dtype: str = "int8",
    **attributes: Any,
) -> Net:
    net = Net(dtype, opset)
    x = net.input(1, 3, 6, 5)
    if size is None:
        given = ["", net.constant([1, 1, *(scales or ())], "float32")]
    else:
        given = ["", "", net.constant([1, 3, *size])]
    if given[0] == "" and opset < 13:
        given[0] = net.constant([], "float32")
        given[1] = given[1] or net.constant([], "float32")
    x = net.node("Resize", [x, *given], mode=mode, **attributes)
    if mode == "nearest":
        net.output(x)
    else:
        net.output(x, 0.25, -7 if dtype == "int8" else 90)
    return net


@pytest.mark.parametrize("rounding", ROUNDINGS)
@pytest.mark.parametrize("mode", [*MODES, *NEWER, *OLDER])
def test_nearest(mode: str, rounding: str) -> None:
    opset = 19 if mode in NEWER else 12 if mode in OLDER else 17
    for size in SIZES:
        net = resized(
            "nearest",
            size,
            opset=opset,
            coordinate_transformation_mode=mode,
            nearest_mode=rounding,
        )
        found = opcodes(check(net, batches=[1]))
        assert set(found) <= {"GATHER", "SLICE", "RESHAPE"}


@pytest.mark.parametrize("scales", [(2, 2), (1.7, 2.3), (0.6, 0.4), (1, 3)])
@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_scales(mode: str, scales: tuple[float, float]) -> None:
    check(resized(mode, scales=scales), worst=int(mode == "linear"))


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
@pytest.mark.parametrize("mode", [*MODES, *NEWER])
def test_linear(mode: str, dtype: str) -> None:
    for size in SIZES:
        net = resized(
            "linear",
            size,
            opset=19 if mode in NEWER else 17,
            dtype=dtype,
            coordinate_transformation_mode=mode,
        )
        program = check(net, worst=1, batches=[1])
        assert opcodes(program) == ["RESIZE_LINEAR"]


@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_scales_of_some_axes(mode: str) -> None:
    net = Net(opset=18)
    scales = net.constant([3, 0.5], "float32")
    x = net.node("Resize", [net.input(1, 3, 6, 5), "", scales], mode=mode, axes=[-1, 2])
    net.output(x)
    check(net, worst=int(mode == "linear"))


@pytest.mark.parametrize(
    "attributes",
    [
        {"mode": "cubic"},
        {"mode": "linear", "antialias": 1},
        {"mode": "linear", "keep_aspect_ratio_policy": "not_larger"},
    ],
)
def test_other_interpolations_are_the_hosts(attributes: dict[str, Any]) -> None:
    size = (4, 3) if "antialias" in attributes else (9, 9)
    check(resized(attributes.pop("mode"), size, opset=18, **attributes), batches=[1], host=True)
