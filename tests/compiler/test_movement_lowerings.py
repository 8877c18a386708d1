"""What movements, resizes, transposed convolutions and pools become, and what is left of them, as text."""

from typing import Any

import numpy as np

from furiosa.compiler.dfg.ir import Dfg, Place
from furiosa.compiler.dfg.printer import print_dfg
from furiosa.compiler.ldfg.ir import Ldfg
from furiosa.compiler.ldfg.passes.simplify_moves import SimplifyMoves
from furiosa.compiler.ldfg.printer import print_ldfg
from furiosa.compiler.ldfg.verify import RULES
from furiosa.compiler.lower.dfg_to_ldfg import DfgToLdfg
from furiosa.compiler.options import CompilerOptions
from support import goldens
from support.sketches import WINDOW, Sketch, per_channel, q

OPTIONS = CompilerOptions()
NPU: dict[str, Any] = {"place": Place.NPU}
FULL: dict[str, Any] = {**NPU, "low": -128, "high": 127}


def lowered(graph: Dfg) -> Ldfg:
    result = DfgToLdfg().run(graph, OPTIONS)
    assert [message for rule in RULES for message in rule(result)] == []
    return result


def golden(case: str, graph: Dfg) -> None:
    goldens.check(f"dfg-to-ldfg/{case}", print_dfg(graph), print_ldfg(lowered(graph)))


def simplified(case: str, graph: Dfg) -> None:
    before = lowered(graph)
    result = SimplifyMoves().run(before, OPTIONS)
    assert result.changed
    assert [message for rule in RULES for message in rule(result.graph)] == []
    goldens.check(f"simplify-moves/{case}", print_ldfg(before), print_ldfg(result.graph))


def test_movements() -> None:
    s = Sketch()
    x = s.input("x", (1, 4, 6, 5), "int8", q(0.5, 3))

    def move(op: str, name: str, shape: tuple[int, ...], *constants: Any, **given: Any) -> str:
        names = [s.constant(f"{name}/{i}", data, "int64") for i, data in enumerate(constants)]
        return s.node(op, [x, *names], name, shape, "int8", q(0.5, 3), **NPU, **given)

    s.done(
        move("Transpose", "transpose", (1, 6, 5, 4), perm=(0, 2, 3, 1)),
        move("Slice", "slice", (1, 3, 2, 5), [5, 4], [0, 0], [2, 1], [-3, -1]),
        move("Gather", "gather", (1, 4, 2, 2, 5), [[0, 5], [-1, 0]], axis=2),
        move("Tile", "tile", (1, 8, 6, 5), [1, 2, 1, 1]),
        move("DepthToSpace", "depth", (1, 1, 12, 10), blocksize=2, mode="CRD"),
        move("Pad", "pad", (1, 4, 7, 4), [0, 0, 1, -1, 0, 0, 0, 0]),
        move("Pad", "edge", (1, 4, 7, 5), [0, 0, 1, 0, 0, 0, 0, 0], mode="edge"),
        move("Expand", "expand", (2, 1, 4, 6, 5), [2, 1, 1, 1, 1]),
        move("Resize", "resize", (1, 4, 12, 5), [], [], [1, 4, 12, 5]),
    )
    golden("movements", s.graph)


def test_joining_in_pairs() -> None:
    s = Sketch()
    names = [s.input(f"x{i}", (1, i + 1), "int8", q(1)) for i in range(4)]
    names.append(s.constant("k", [[7]], "int8", q(1)))
    golden("concat", s.done(s.node("Concat", names, "y", (1, 11), "int8", q(1), axis=-1, **NPU)))


def test_resizing_by_lines() -> None:
    s = Sketch()
    x, scales = (
        s.input("x", (1, 1, 2, 3), "int8", q(0.5, 3)),
        s.constant("s", [1, 1, 2, 1], "float32"),
    )
    given = {"mode": "linear", **FULL}
    golden(
        "resize-linear",
        s.done(s.node("QResize", [x, "", scales], "y", (1, 1, 4, 3), "int8", q(0.25), **given)),
    )


def test_transposed_convolution_by_phases() -> None:
    s = Sketch()
    x = s.input("x", (1, 2, 3, 3), "int8", q(0.5, 3))
    w = s.constant("w", np.arange(1, 37).reshape(2, 2, 3, 3), "int8", per_channel(0.5, 0.25))
    b = s.constant("b", [5, -5], "int32")
    given = {**WINDOW, "strides": (2, 2), "pads": (1, 1, 1, 1), "group": 1, **FULL}
    y = s.node("QConvTranspose", [x, w, b], "y", (1, 2, 5, 5), "int8", q(1), **given)
    golden("transposed", s.done(y))


def test_averages_that_leave_padding_out() -> None:
    s = Sketch()
    x = s.input("x", (1, 2, 3, 3), "int8", q(0.5, 3))
    golden(
        "edges",
        s.done(s.node("QAveragePool", [x], "y", (1, 2, 3, 3), "int8", q(1), **WINDOW, **FULL)),
    )


def test_movements_that_undo_each_other_or_do_nothing_go() -> None:
    s = Sketch()
    x = s.input("x", (1, 1, 4, 5), "int8", q(1))

    def transposed(source: str, name: str, shape: tuple[int, ...], perm: tuple[int, ...]) -> str:
        return s.node("Transpose", [source], name, shape, "int8", q(1), perm=perm, **NPU)

    there = transposed(x, "there", (1, 4, 5, 1), (0, 2, 3, 1))
    back = transposed(there, "back", (1, 1, 4, 5), (0, 3, 1, 2))
    turned = transposed(back, "turned", (1, 1, 5, 4), (0, 1, 3, 2))
    s.done(turned, transposed(turned, "again", (4, 5, 1, 1), (3, 2, 0, 1)))
    simplified("transposes", s.graph)


def test_results_that_nobody_reads_are_not_made() -> None:
    s = Sketch()
    x = s.input("x", (1, 6), "int8", q(1))
    t = s.node("Transpose", [x], "t", (6, 1), "int8", q(1), perm=(1, 0), **NPU)
    s.node("Tile", [t, s.constant("k", [2, 1], "int64")], "dead", (12, 1), "int8", q(1), **NPU)
    simplified("dead", s.done(s.node("Dequantize", [t], "y", (6, 1), **NPU)))
