"""ConvTranspose is one convolution whose channels are the phases of its result, and exact."""

from typing import Any

import pytest

from support.stored_models import Net, check, opcodes


def transposed(
    *,
    inputs: int = 4,
    outputs: int = 6,
    kernel: tuple[int, ...] = (3, 3),
    size: tuple[int, ...] = (5, 4),
    axis: int | None = 1,
    bias: bool = True,
    relu: bool = False,
    dtype: str = "int8",
    **attributes: Any,
) -> Net:
    net = Net(dtype)
    group = attributes.get("group", 1)
    x = net.input(1, inputs, *size)
    w = net.weights(inputs, outputs // group, *kernel, axis=axis)
    held = [net.constant(net.rng.integers(-500, 500, outputs), "float32")] if bias else []
    x = net.node("ConvTranspose", [x, w, *held], **attributes)
    net.output(net.node("Relu", [x]) if relu else x, 64, -11 if dtype == "int8" else 100)
    return net


SHUFFLED = ["CONV2D", "RESHAPE", "TRANSPOSE", "RESHAPE"]
CASES: dict[str, tuple[dict[str, Any], list[str]]] = {
    "stride 1": ({}, ["CONV2D"]),
    "stride 1, cropped": ({"pads": [1, 2, 0, 1]}, ["CONV2D"]),
    "stride 1, dilated": ({"dilations": [2, 3]}, ["CONV2D"]),
    "stride 2": ({"strides": [2, 2]}, [*SHUFFLED, "SLICE"]),
    "stride 2, kernel 2": ({"strides": [2, 2], "kernel": (2, 2)}, SHUFFLED),
    "stride 2, kernel 4": (
        {"strides": [2, 2], "kernel": (4, 4), "pads": [1] * 4},
        [*SHUFFLED, "SLICE"],
    ),
    "stride over kernel": ({"strides": [3, 4], "kernel": (2, 1)}, [*SHUFFLED, "SLICE"]),
    "uneven strides": ({"strides": [1, 3]}, SHUFFLED),
    "cropped more than a phase": (
        {"strides": [2, 2], "kernel": (5, 5), "pads": [3, 4, 2, 1]},
        [*SHUFFLED, "SLICE"],
    ),
    "cropped more than there are taps": (
        {"strides": [2, 2], "kernel": (2, 2), "pads": [5, 2, 0, 0]},
        [*SHUFFLED, "SLICE"],
    ),
    "output padding": (
        {"strides": [2, 2], "pads": [1] * 4, "output_padding": [1, 1]},
        [*SHUFFLED, "SLICE"],
    ),
    "output padding beyond all taps": (
        {"strides": [3, 3], "kernel": (1, 1), "output_padding": [2, 1]},
        [*SHUFFLED, "SLICE"],
    ),
    "dilated and strided": ({"strides": [2, 3], "dilations": [3, 2]}, [*SHUFFLED, "SLICE"]),
    "output shape": ({"strides": [2, 2], "output_shape": [10, 8]}, [*SHUFFLED, "SLICE"]),
    "same upper": ({"strides": [2, 2], "auto_pad": "SAME_UPPER"}, SHUFFLED),
    "same lower": ({"strides": [2, 2], "auto_pad": "SAME_LOWER"}, [*SHUFFLED, "SLICE"]),
    "valid": ({"strides": [2, 2], "auto_pad": "VALID"}, [*SHUFFLED, "SLICE"]),
    "groups": ({"strides": [2, 2], "group": 2}, [*SHUFFLED, "SLICE"]),
    "depthwise": (
        {"strides": [2, 2], "group": 4, "outputs": 4},
        ["DEPTHWISE_CONV2D", *SHUFFLED[1:], "SLICE"],
    ),
    "weights of one scale": ({"strides": [2, 2], "axis": None}, [*SHUFFLED, "SLICE"]),
    "no bias": ({"strides": [2, 2], "bias": False}, [*SHUFFLED, "SLICE"]),
    "relu": ({"strides": [2, 2], "relu": True}, [*SHUFFLED, "SLICE"]),
    "unsigned": ({"strides": [2, 2], "dtype": "uint8"}, [*SHUFFLED, "SLICE"]),
    "lines": (
        {"strides": [2], "kernel": (3,), "size": (5,)},
        ["RESHAPE", *SHUFFLED, "SLICE", "RESHAPE"],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_conv_transpose(name: str) -> None:
    given, expected = CASES[name]
    assert opcodes(check(transposed(**given))) == expected


def test_no_zeros_are_inserted() -> None:
    """A kernel of 4 x 4 is one of 2 x 2 in each of its four phases."""
    program = check(transposed(strides=[2, 2], kernel=(4, 4), pads=[1] * 4), batches=[1])
    convolution, *_ = program.instructions
    assert program.constants[convolution.weights].shape == (6 * 4, 4, 2, 2)


def test_weights_that_are_no_constants_are_the_hosts() -> None:
    net = Net()
    x, w = net.input(1, 4, 5, 4), net.input(4, 6, 3, 3)
    net.output(net.node("ConvTranspose", [x, w]), 64)
    check(net, batches=[1], host=True)


def test_dilation_beyond_the_npu_is_the_hosts() -> None:
    check(transposed(dilations=[1, 12]), batches=[1])
    check(transposed(dilations=[1, 13]), batches=[1], host=True)


def test_more_groups_than_the_npu_has_are_the_hosts() -> None:
    check(transposed(inputs=256, outputs=256, group=128, size=(2, 2)), batches=[1])
    check(transposed(inputs=258, outputs=258, group=129, size=(2, 2)), batches=[1], host=True)
    check(transposed(inputs=129, outputs=129, group=129, size=(2, 2)), batches=[1])


def test_large_sums_are_the_hosts() -> None:
    """The bound counts what the instruction multiplies."""
    given: dict[str, Any] = {"outputs": 1, "size": (1, 1), "axis": None, "bias": False}
    check(transposed(inputs=7310, **given), batches=[1])  # 7310 x 9 x 255 x 128 is below 2^31
    check(transposed(inputs=7311, **given), batches=[1], host=True)
