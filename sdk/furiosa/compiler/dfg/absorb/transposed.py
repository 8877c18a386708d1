"""Transposed convolutions with constant weights."""

from collections.abc import Mapping
from typing import Final

import numpy as np

from furiosa.compiler.dfg.absorb.run import Builder, Run, stored
from furiosa.compiler.dfg.ir import Dfg, Node
from furiosa.compiler.dfg.parameters import bias_of, weights_of
from furiosa.compiler.value import Array, Attribute, QuantParams, constant


def _conv_transpose(run: Run, graph: Dfg, producers: Mapping[str, Node]) -> Node | None:
    node = run.first
    source = stored(graph, producers, node.inputs[0])
    held = weights_of(graph, producers, node.inputs[1], 1)
    geometry = _geometry(node, graph)
    if source is None or source.whole is None or held is None or geometry is None:
        return None
    group = node.attributes.get("group", 1)
    assert isinstance(group, int)
    weights, params = _grouped(*held, group)
    if len(set(params.zero_points)) > 1:
        return None
    inputs = [source.name, graph.fresh(f"{node.name}/weights")]
    bias = None
    if len(node.inputs) > 2 and node.inputs[2]:
        units = np.float32(source.whole.scale) * np.array(params.scales, np.float32)
        bias = bias_of(graph, producers, node.inputs[2], units, len(weights))
        if bias is None:
            return None
    graph.add(constant(inputs[1], weights, params))
    if bias is not None:
        inputs.append(graph.add(constant(graph.fresh(f"{node.name}/bias"), bias)))
    return run.node("QConvTranspose", tuple(inputs), {**geometry, "group": group, **run.clamp})


def _grouped(data: Array, params: QuantParams, group: int) -> tuple[Array, QuantParams]:
    """[outputs of a group, inputs, ...] to [outputs, inputs of a group, ...], as convolutions have them.

    Parameters by channel are those of the outputs of one group, and the same for all groups.
    """
    outputs, inputs, *kernel = data.shape
    parted = data.reshape(outputs, group, inputs // group, *kernel).swapaxes(0, 1)
    whole = np.ascontiguousarray(parted.reshape(group * outputs, inputs // group, *kernel))
    if params.axis is None:
        return whole, params
    return whole, QuantParams(params.scales * group, params.zero_points * group, 0)


def _geometry(node: Node, graph: Dfg) -> dict[str, Attribute] | None:
    """Attributes written out. What output_padding adds is taken from the pads at the end."""
    source, weights, result = (
        graph.values[name].shape for name in (*node.inputs[:2], node.outputs[0])
    )
    axes = len(source) - 2
    if axes not in (1, 2):
        return None
    kernel = weights[2:]
    strides, dilations, adjust = (
        _ints(node, key, (fill,) * axes)
        for key, fill in (("strides", 1), ("dilations", 1), ("output_padding", 0))
    )
    auto = node.attributes.get("auto_pad", "NOTSET")
    pads = _ints(node, "pads", (0,) * (2 * axes))
    asked = "output_shape" in node.attributes or auto in ("SAME_UPPER", "SAME_LOWER")
    begin, end = [], []
    for axis in range(axes):
        covered = dilations[axis] * (kernel[axis] - 1) + 1
        full = strides[axis] * (source[2 + axis] - 1) + covered
        total = full + adjust[axis] - result[2 + axis]
        if not asked:
            begin.append(pads[axis] if auto == "NOTSET" else 0)
        elif total < 0:
            return None
        else:
            begin.append(total // 2 if auto == "SAME_UPPER" else total - total // 2)
        end.append(full - result[2 + axis] - begin[-1])
    return {
        "kernel_shape": kernel,
        "strides": strides,
        "dilations": dilations,
        "pads": (*begin, *end),
    }


def _ints(node: Node, key: str, default: tuple[int, ...]) -> tuple[int, ...]:
    found = node.attributes.get(key, default)
    assert isinstance(found, tuple)
    return tuple(int(number) for number in found)


BUILDERS: Final[Mapping[str, Builder]] = {"ConvTranspose": _conv_transpose}
