"""Any number of quantised ONNX models at random: every operator of the NPU, and some of the host."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import onnx
from onnx import TensorProto, helper

from support import (
    random_graph_elementwise,
    random_graph_movement,
    random_graph_products,
    random_graph_reduction,
    random_graph_windows,
)
from support.random_graph import RandomGraph, Stored


@dataclass(frozen=True)
class RandomModel:
    """`exact`: all scales are powers of 2, so that float32 holds every sum of products.
    `batches`: sizes of batches with which it must compile.
    `is_limited`: there are operators that the NPU takes only in small batches.
    """

    model: onnx.ModelProto
    exact: bool
    batches: tuple[int, ...]

    @property
    def is_limited(self) -> bool:
        return any(n.op_type in ("LpNormalization", "Softmax") for n in self.model.graph.node)


def random_model(seed: int) -> RandomModel:
    """One of each kind of operator comes first in as many seeds as there are kinds."""
    g = RandomGraph(seed)
    _image(g)
    for _ in range(int(g.rng.integers(3))):
        g.pick(_image, _list, _real)(g)
    _MAKERS[seed % len(_MAKERS)](g)
    for _ in range(g.upto(9)):
        g.pick(*_MAKERS)(g)
    outputs = _outputs(g)
    return RandomModel(g.model(*outputs), g.exact, (1, 4) if g.batched else (1,))


def _image(g: RandomGraph) -> None:
    g.input(g.first(), g.pick(1, 2, 3, 4, 8, 16), g.upto(10), g.upto(10))


def _list(g: RandomGraph) -> None:
    g.input(g.first(), *(g.upto(7) for _ in range(g.pick(0, 1, 2, 3, 4))))


def _real(g: RandomGraph) -> None:
    """An input of real numbers."""
    shape = (g.first(), *(g.upto(7) for _ in range(g.pick(1, 2, 3))))
    name = f"x{len(g.net.inputs)}"
    g.net.inputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
    g.store(name, shape, 100)


def _outputs(g: RandomGraph) -> list[str]:
    """Of what nobody reads, all but some dead ends; some that others read; stored or real."""
    values = [v for v in g.values if v.name not in g.inputs]
    ends = [v for v in values if v.name not in g.read] or values[-1:]
    chosen = [v for v in ends if g.chance(0.9)] or ends[-1:]
    chosen += [v for v in values if v.name in g.read and g.chance(0.2)]
    names = [_output(g, value) for value in chosen]
    if g.chance(0.1):  # an output that is another by a second name
        names.append(g.net.node("Identity", g.pick(*chosen).name))
    return [*names, *g.islands]


def _output(g: RandomGraph, value: Stored) -> str:
    if g.chance(0.6):
        return value.name
    real = g.real(value)
    if g.chance(0.3) and len(value.shape) > 1:
        order = (0, *reversed(range(1, len(value.shape))))
        return g.net.node("Transpose", real, perm=order)
    return real


_MAKERS: Final[tuple[Callable[[RandomGraph], None], ...]] = (
    random_graph_windows.convolution,
    random_graph_windows.depthwise,
    random_graph_windows.transposed,
    random_graph_windows.max_pool,
    random_graph_windows.average_pool,
    random_graph_windows.average_pool,
    random_graph_windows.global_pool,
    random_graph_windows.resize_linear,
    random_graph_products.gemm,
    random_graph_products.matmul,
    random_graph_products.matmul_of_constant,
    random_graph_elementwise.two,
    random_graph_elementwise.two,
    random_graph_elementwise.several,
    random_graph_elementwise.table,
    random_graph_elementwise.table,
    random_graph_elementwise.clamp,
    random_graph_elementwise.island,
    random_graph_reduction.over_axes,
    random_graph_reduction.normalized,
    random_graph_reduction.softmax,
    random_graph_movement.chain,
    random_graph_movement.chain,
    random_graph_movement.concat,
    random_graph_movement.split,
)
