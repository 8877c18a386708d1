"""Pools of every geometry compute what onnxruntime computes."""

from typing import Any

import pytest

from support.stored_models import Net, check, opcodes


def pooled(op: str, *size: int, dtype: str = "int8", opset: int = 19, **attributes: Any) -> Net:
    net = Net(dtype, opset)
    x = net.node(op, [net.input(1, 3, *(size or (7, 6)))], **attributes)
    net.output(x) if "Max" in op else net.output(x, 0.25, -5 if dtype == "int8" else 80)
    return net


K3: dict[str, Any] = {"kernel_shape": [3, 3]}
AVERAGES: dict[str, tuple[dict[str, Any], str]] = {
    "plain": (K3, "DEPTHWISE_CONV2D"),
    "strided": ({**K3, "strides": [2, 3]}, "DEPTHWISE_CONV2D"),
    "padded": ({**K3, "pads": [1, 1, 1, 1]}, "AVERAGE_POOL2D"),
    "padding counted": ({**K3, "pads": [1, 0, 1, 2], "count_include_pad": 1}, "DEPTHWISE_CONV2D"),
    "same": ({**K3, "strides": [2, 2], "auto_pad": "SAME_UPPER"}, "AVERAGE_POOL2D"),
    "rounded up": ({"kernel_shape": [2, 4], "strides": [2, 4], "ceil_mode": 1}, "AVERAGE_POOL2D"),
    "rounded up, padded": (
        {**K3, "strides": [2, 2], "pads": [1, 1, 1, 0], "ceil_mode": 1},
        "AVERAGE_POOL2D",
    ),
    "rounded up, padding counted": (
        {**K3, "strides": [3, 2], "pads": [1, 1, 0, 0], "ceil_mode": 1, "count_include_pad": 1},
        "AVERAGE_POOL2D",
    ),
    "dilated": ({**K3, "dilations": [2, 1], "pads": [1, 1, 1, 1]}, "AVERAGE_POOL2D"),
}


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
@pytest.mark.parametrize("name", AVERAGES)
def test_average_pool(name: str, dtype: str) -> None:
    given, expected = AVERAGES[name]
    assert opcodes(check(pooled("AveragePool", dtype=dtype, **given))) == [expected]


MAXIMA: dict[str, dict[str, Any]] = {
    "plain": K3,
    "padded": {**K3, "strides": [2, 2], "pads": [1, 0, 2, 1]},
    "dilated": {**K3, "dilations": [2, 1], "pads": [1, 1, 1, 1]},
    "rounded up": {**K3, "strides": [2, 2], "ceil_mode": 1},
}


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
@pytest.mark.parametrize("name", MAXIMA)
def test_max_pool(name: str, dtype: str) -> None:
    net = pooled("MaxPool", dtype=dtype, **MAXIMA[name])
    assert opcodes(check(net)) == ["MAX_POOL2D"]


def test_lines_are_images_of_one_row() -> None:
    line: dict[str, Any] = {"kernel_shape": [3], "strides": [2], "pads": [1, 1]}
    assert opcodes(check(pooled("MaxPool", 9, **line))) == ["RESHAPE", "MAX_POOL2D", "RESHAPE"]
    assert opcodes(check(pooled("AveragePool", 9, **line))) == [
        "RESHAPE",
        "AVERAGE_POOL2D",
        "RESHAPE",
    ]


@pytest.mark.parametrize("size", [(7, 6), (9,)])
def test_global_pools(size: tuple[int, ...]) -> None:
    around = ["RESHAPE"] if len(size) == 1 else []
    expected = [*around, "MAX_POOL2D", *around]
    assert opcodes(check(pooled("GlobalMaxPool", *size))) == expected
    expected = [*around, "DEPTHWISE_CONV2D", *around]
    assert opcodes(check(pooled("GlobalAveragePool", *size))) == expected


def test_a_maximum_is_taken_of_what_an_operator_stores() -> None:
    """Nothing quantises the convolution's result but what quantises the maximum."""
    net = Net()
    x = net.node("Conv", [net.input(1, 3, 7, 6), net.weights(4, 3, 3, 3)])
    net.output(net.node("MaxPool", [x], **K3), 16)
    assert opcodes(check(net)) == ["CONV2D", "MAX_POOL2D"]


@pytest.mark.parametrize("op", ["LpPool", "GlobalLpPool"])
def test_other_pools_are_the_hosts(op: str) -> None:
    check(pooled(op, opset=17, **({} if "Global" in op else K3)), batches=[1], host=True)


@pytest.mark.parametrize("op", ["MaxPool", "AveragePool"])
def test_pools_in_three_dimensions_are_the_hosts(op: str) -> None:
    check(pooled(op, 4, 4, 4, kernel_shape=[2, 2, 2]), batches=[1], host=True)
