"""Small dfgs to try passes on, drawn by hand: one call a line."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from furiosa.common.tensor import DType
from furiosa.compiler.dfg.ir import Dfg, Node, Place
from furiosa.compiler.value import ModelInfo, QuantParams, Value, constant

INFO = ModelInfo("sketch", 13, 1, bytes(32))


def q(scale: float, zero_point: int = 0) -> QuantParams:
    return QuantParams((float(np.float32(scale)),), (zero_point,))


def per_channel(*scales: float, axis: int = 0) -> QuantParams:
    return QuantParams(tuple(float(np.float32(s)) for s in scales), (0,) * len(scales), axis)


class Sketch:
    """A dfg under construction. Every method returns the name of the value it makes."""

    def __init__(self) -> None:
        self.graph = Dfg(INFO, (), ())

    def input(
        self,
        name: str,
        shape: Sequence[int],
        dtype: str = "float32",
        params: QuantParams | None = None,
    ) -> str:
        self.graph.inputs += (name,)
        return self.graph.add(Value(name, DType(dtype), tuple(shape), params))

    def constant(
        self,
        name: str,
        data: npt.ArrayLike,
        dtype: str,
        params: QuantParams | None = None,
    ) -> str:
        return self.graph.add(constant(name, np.array(data, dtype), params))

    def node(
        self,
        op: str,
        inputs: Sequence[str],
        name: str,
        shape: Sequence[int],
        dtype: str = "float32",
        params: QuantParams | None = None,
        *,
        place: Place = Place.ANY,
        **attributes: Any,
    ) -> str:
        """A node `name` with one result of the same name."""
        self.graph.nodes.append(
            Node(name, op, tuple(inputs), (name,), attributes, (f"{name}.onnx",), place)
        )
        return self.graph.add(Value(name, DType(dtype), tuple(shape), params))

    def done(self, *outputs: str) -> Dfg:
        self.graph.outputs = outputs
        return self.graph


WINDOW: dict[str, Any] = {
    "kernel_shape": (3, 3),
    "strides": (1, 1),
    "dilations": (1, 1),
    "pads": (1, 1, 1, 1),
}


def placed_cnn(*, host: bool = True) -> Dfg:
    """quantize, conv, max pool, gemm and dequantize on the NPU, then softmax on the host if wanted."""
    s = Sketch()
    npu: dict[str, Any] = {"place": Place.NPU}
    x = s.input("x", (1, 1, 4, 4))
    xq = s.node("Quantize", [x], "xq", (1, 1, 4, 4), "int8", q(0.5, 1), place=Place.NPU)
    w = s.constant("w", np.arange(18).reshape(2, 1, 3, 3) - 9, "int8", per_channel(0.25, 0.5))
    b = s.constant("b", [5, -5], "int32")
    conv = {**WINDOW, "group": 1, "low": 3, "high": 127}
    c = s.node("QConv", [xq, w, b], "c", (1, 2, 4, 4), "int8", q(0.125, 3), **npu, **conv)
    pool = {
        **WINDOW,
        "kernel_shape": (2, 2),
        "strides": (2, 2),
        "pads": (0,) * 4,
    }
    p = s.node("MaxPool", [c], "p", (1, 2, 2, 2), "int8", q(0.125, 3), **npu, **pool)
    f = s.node("Reshape", [p], "f", (1, 8), "int8", q(0.125, 3), place=Place.NPU)
    v = s.constant("v", np.ones((3, 8)), "int8", q(0.5))
    g = s.node(
        "QGemm", [f, v], "g", (1, 3), "int8", q(1.0, -2), place=Place.NPU, low=-128, high=127
    )
    d = s.node("Dequantize", [g], "d", (1, 3), place=Place.NPU)
    return s.done(s.node("Softmax", [d], "y", (1, 3), place=Place.HOST, axis=1) if host else d)
