"""Operators that move elements work on stored integers, whatever their opset calls their parameters."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from support.stored_models import Net, check, opcodes

Draw = Callable[[Net, str], str]  # from the real input [1, 4, 6, 5] to the real result


def compiled(net: Net, **more: Any) -> list[str]:
    return opcodes(check(net, **more))


def slice_(starts: Any, ends: Any, axes: Any, steps: Any) -> Draw:
    return lambda net, x: net.node("Slice", [x, *map(net.constant, (starts, ends, axes, steps))])


def pad(pads: Any, mode: str = "constant", value: float | None = None) -> Draw:
    def draw(net: Net, x: str) -> str:
        more = [] if value is None else [net.constant(value, "float32")]
        return net.node("Pad", [x, net.constant(pads), *more], mode=mode)

    return draw


def pad_with_stored(net: Net, x: str) -> str:
    """As quantisers write it that store every constant in 8 bits."""
    parts = (net.constant(-7, "int8"), net.constant(0.3, "float32"), net.constant(2, "int8"))
    value = net.node("DequantizeLinear", list(parts))
    return net.node("Pad", [x, net.constant([0, 0, 1, 1, 0, 0, 1, 1]), value])


def gather(indices: Any, axis: int) -> Draw:
    return lambda net, x: net.node("Gather", [x, net.constant(indices)], axis=axis)


def shaped(op: str, *numbers: int) -> Draw:
    return lambda net, x: net.node(op, [x, net.constant(numbers)])


def plain(op: str, **attributes: Any) -> Draw:
    return lambda net, x: net.node(op, [x], **attributes)


CASES: dict[str, tuple[Draw, list[str]]] = {
    "reshape": (shaped("Reshape", 1, 12, 10), ["RESHAPE"]),
    "flatten": (plain("Flatten"), ["RESHAPE"]),
    "unsqueeze": (shaped("Unsqueeze", 2), ["RESHAPE"]),
    "transpose": (plain("Transpose", perm=[0, 2, 3, 1]), ["TRANSPOSE"]),
    "slice of two axes": (slice_([1, -4], [9, -1], [1, 2], [1, 1]), ["SLICE"]),
    "slice with steps": (slice_([0, 1], [4, 6], [1, 2], [2, 3]), ["SLICE"]),
    "slice backwards": (slice_([-1], [-99], [3], [-2]), ["GATHER"]),
    "pad": (pad([0, 0, 1, 2, 0, 1, 0, 3]), ["PAD"]),
    "pad with a number": (pad([0, 0, 1, 1, 0, 0, 1, 1], value=2.0), ["PAD"]),
    "pad with what must be rounded": (pad([0, 0, 1, 1, 0, 0, 1, 1], value=1.3), ["PAD"]),
    "pad with a stored number": (pad_with_stored, ["PAD"]),
    "pad of less than nothing": (pad([0, -1, 2, 0, 0, 0, -1, 0]), ["SLICE", "PAD"]),
    "crop by padding": (pad([0, 0, -1, 0, 0, 0, -1, -2]), ["SLICE"]),
    "pad by edges": (pad([0, 0, 1, 2, 0, 0, 3, 0], "edge"), ["GATHER", "GATHER"]),
    "pad by reflection": (pad([0, 0, 5, 2, 0, 0, 3, 0], "reflect"), ["GATHER", "GATHER"]),
    "gather": (gather([2, 0, -1], 2), ["GATHER"]),
    "gather one": (gather(1, 1), ["SLICE", "RESHAPE"]),
    "gather a table": (gather([[2, 0], [0, 1]], 3), ["GATHER", "RESHAPE"]),
    "gather neighbours": (gather([1, 2, 3], 1), ["SLICE"]),
    "tile": (shaped("Tile", 1, 2, 1, 3), ["GATHER", "GATHER"]),
    "space to depth": (
        lambda net, x: net.node("SpaceToDepth", [slice_([0], [4], [3], [1])(net, x)], blocksize=2),
        ["SLICE", "RESHAPE", "TRANSPOSE", "RESHAPE"],
    ),
    "depth to space": (
        plain("DepthToSpace", blocksize=2, mode="DCR"),
        ["RESHAPE", "TRANSPOSE", "RESHAPE"],
    ),
    "depth to space by columns": (
        plain("DepthToSpace", blocksize=2, mode="CRD"),
        ["RESHAPE", "TRANSPOSE", "RESHAPE"],
    ),
}


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
@pytest.mark.parametrize("name", CASES)
def test_movement(name: str, dtype: str) -> None:
    draw, expected = CASES[name]
    net = Net(dtype)
    net.output(draw(net, net.input(1, 4, 6, 5)))
    assert compiled(net, batches=[1, 4]) == expected


@pytest.mark.parametrize("name", CASES)
def test_movement_of_real_numbers_between_operators_of_the_npu(name: str) -> None:
    """Nothing is between a float input and the movement: Quantize goes first, then 8 bits are moved."""
    draw, expected = CASES[name]
    net = Net()
    net.output(draw(net, net.real(1, 4, 6, 5)))
    assert compiled(net, batches=[1, 4]) == ["QUANTIZE", *expected]


def test_expand() -> None:
    net = Net()
    x = net.node("Expand", [net.input(1, 4, 1, 5), net.constant([1, 4, 6, 5])])
    net.output(x)
    assert compiled(net) == ["EXPAND"]


def test_expand_to_more_axes() -> None:
    net = Net()
    net.output(net.node("Expand", [net.input(2, 1), net.constant([3, 2, 4])]))
    assert compiled(net, batches=[1]) == ["RESHAPE", "EXPAND"]


@pytest.mark.parametrize("opset", [11, 13, 18])
def test_split(opset: int) -> None:
    net = Net(opset=opset)
    x = net.input(1, 6, 4, 5)
    attributes: dict[str, Any] = {"split": [2, 2, 2]} if opset < 13 else {}
    if opset == 18:
        attributes = {"num_outputs": 3}
    given = [net.constant([2, 2, 2])] if opset == 13 else []
    for part in net.several("Split", [x, *given], 3, axis=1, **attributes):
        net.output(part)
    assert compiled(net) == ["SLICE"] * 3


def test_pieces_that_are_not_wanted_are_not_made() -> None:
    net = Net()
    _, second = net.several("Split", [net.input(1, 6, 4, 5)], 2, axis=1)
    net.output(second)
    assert compiled(net) == ["SLICE"]


@pytest.mark.parametrize("axis", [1, 2, -1])
def test_concat(axis: int) -> None:
    net = Net()
    net.output(net.node("Concat", [net.input(1, 3, 4, 5) for _ in range(5)], axis=axis))
    assert compiled(net) == ["CONCAT"] * 4


def test_concat_of_other_scales_is_requantised_before() -> None:
    """Each operand takes the result's parameters by itself; one that has them already stays as it is."""
    net = Net()
    parts = [net.input(1, 3, 4, 5, scale=scale, zero=zero) for scale, zero in ((0.5, 3), (0.3, -9))]
    net.output(net.node("Concat", parts, axis=1), 0.5, 3)
    found = compiled(net)
    assert found[-1] == "CONCAT"
    assert len(found) == 2


def test_operators_before_a_concat_write_its_parameters() -> None:
    net = Net()
    x = net.input(1, 4, 6, 5)
    parts = [net.node("Conv", [x, net.weights(4, 4, 1, 1)]) for _ in range(2)]
    net.output(net.node("Relu", [net.quantized(net.node("Concat", parts, axis=1), 32)]), 64)
    found = compiled(net)
    assert found[:3] == ["CONV2D", "CONV2D", "CONCAT"]
    assert len(found) == 4


@pytest.mark.parametrize(("value", "quantised"), [(2.5, False), (2.4, False), (2.4, True)])
def test_constants_in_a_concat_are_loaded(value: float, quantised: bool) -> None:
    """Whether they are stored numbers already, or Quantize makes them such."""
    net = Net()
    held = net.constant(np.full((1, 2, 4, 5), value), "float32")
    if quantised:
        held = net.quantized(held)
    net.output(net.node("Concat", [held, net.input(1, 3, 4, 5)], axis=1))
    assert compiled(net, batches=[1]) == ["LOAD", "CONCAT"]


def test_transposes_that_undo_each_other_go() -> None:
    net = Net()
    x = net.node("Transpose", [net.input(1, 4, 6, 5)], perm=[0, 2, 3, 1])
    x = net.node("Transpose", [x], perm=[0, 3, 1, 2])
    net.output(net.node("MaxPool", [x], kernel_shape=[2, 2]))
    assert compiled(net) == ["MAX_POOL2D"]


def test_a_transpose_of_axes_of_one_element_is_a_reshape() -> None:
    net = Net()
    net.output(net.node("Transpose", [net.input(1, 4, 1, 5)], perm=[0, 2, 1, 3]))
    assert compiled(net) == ["RESHAPE"]


def test_a_padding_of_no_stored_number_between_reals_is_the_hosts() -> None:
    net = Net()
    x = pad([0, 0, 1, 1, 0, 0, 1, 1], value=1.3)(net, net.input(1, 4, 6, 5))
    net.output(net.node("Sin", [x]))
    check(net, host=True, worst=1)


def test_real_numbers_are_moved_where_that_saves_a_host_section() -> None:
    """Concat of two that are stored in different ways, and nothing quantises the result."""
    net = Net()
    parts = [net.input(1, 3, 4, 5, scale=scale) for scale in (0.5, 0.25)]
    real = net.node("Concat", parts, axis=1)
    net.output(real, 0.25)
    net.output(real, 0.5)
    found = compiled(net)
    assert "CONCAT" in found
    assert "QUANTIZE" in found
