"""TensorFlow Lite operators that move elements answer as LiteRT does, to the bit, without the host."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from furiosa.compiler import CompilerOptions, InvalidModel, compile
from furiosa.enf import NpuSection, Program
from support.tflite_cases import Case, worst
from support.tflite_models import Net

DTYPES = ("int8", "uint8")
S = (1, 4, 6, 8)  # NHWC


def moved(
    dtype: str,
    kind: str,
    constants: Sequence[Any],
    shape: tuple[int, ...],
    *,
    source: tuple[int, ...] = S,
    image: bool = False,
    constants_first: bool = False,
    **options: Any,
) -> Program:
    """One operator; with `image` it reads the result of a pool, which is NCHW inside."""
    case = Case(dtype)
    x = first = case.activation(*source)
    if image:
        window = {"Padding": 0, "StrideH": 1, "StrideW": 1, "FilterHeight": 2, "FilterWidth": 2}
        x = case.net.node("MAX_POOL_2D", [x], case.activation(*source), **window)
    held = [case.net.constant(np.array(data, np.int32)) for data in constants]
    result = case.activation(*shape)
    case.net.node(kind, [*held, x] if constants_first else [x, *held], result, **options)
    difference, compiled = worst(case.net.model([first], [result]))
    assert difference == 0
    assert [type(section) for section in compiled.sections] == [NpuSection]
    return compiled


CASES: dict[str, tuple[str, list[Any], tuple[int, ...], dict[str, Any]]] = {
    "transpose": ("TRANSPOSE", [[0, 2, 1, 3]], (1, 6, 4, 8), {}),
    "transpose of images to NCHW": ("TRANSPOSE", [[0, 3, 1, 2]], (1, 8, 4, 6), {}),
    "transpose of images from NCHW": ("TRANSPOSE", [[0, 2, 3, 1]], (1, 6, 8, 4), {}),
    "slice": ("SLICE", [[0, 1, 2, 3], [1, 2, -1, 4]], (1, 2, 4, 4), {}),
    "strided slice": (
        "STRIDED_SLICE",
        [[0, 1, 5, 0], [1, 9, 0, 8], [1, 1, -2, 3]],
        (1, 3, 3, 3),
        {"BeginMask": 1},
    ),
    "strided slice to the end": (
        "STRIDED_SLICE",
        [[0, 1, 2], [0, 0, 0], [1, 1, 2]],
        (1, 3, 2, 8),
        {"BeginMask": 1, "EndMask": 7},
    ),
    "strided slice of one": (
        "STRIDED_SLICE",
        [[0, -1], [1, 0], [1, 1]],
        (1, 6, 8),
        {"ShrinkAxisMask": 2},
    ),
    "gather": ("GATHER", [[3, 0, 3]], (1, 4, 3, 8), {"Axis": 2}),
    "gather a table": ("GATHER", [[[3, 0], [1, 1]]], (1, 4, 6, 2, 2), {"Axis": -1}),
    "pad channels": ("PAD", [[[0, 0], [0, 0], [1, 0], [2, 3]]], (1, 4, 7, 13), {}),
    "mirror": ("MIRROR_PAD", [[[0, 0], [1, 3], [0, 2], [0, 0]]], (1, 8, 8, 8), {"Mode": 0}),
    "mirror edges": ("MIRROR_PAD", [[[0, 0], [4, 3], [0, 2], [0, 0]]], (1, 11, 8, 8), {"Mode": 1}),
    "expand": ("EXPAND_DIMS", [1], (1, 1, 4, 6, 8), {}),
    "squeeze": ("SQUEEZE", [], (4, 6, 8), {}),
    "tile": ("TILE", [[1, 2, 1, 3]], (1, 8, 6, 24), {}),
    "depth to space": ("DEPTH_TO_SPACE", [], (1, 8, 12, 2), {"BlockSize": 2}),
    "space to depth": ("SPACE_TO_DEPTH", [], (1, 2, 3, 32), {"BlockSize": 2}),
}


@pytest.mark.parametrize("image", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", CASES)
def test_movement(name: str, dtype: str, image: bool) -> None:
    kind, constants, shape, options = CASES[name]
    moved(dtype, kind, constants, shape, image=image, **options)


def test_transposing_an_image_to_the_layout_it_has_moves_nothing() -> None:
    compiled = moved("int8", "TRANSPOSE", [[0, 3, 1, 2]], (1, 8, 4, 6), image=True)
    assert [i.opcode.name for i in compiled.instructions] == ["TRANSPOSE", "MAX_POOL2D"]


def test_padding_with_a_number() -> None:
    case = Case("int8")
    source, result = case.activation(1, 4, 6, 8), case.activation(1, 5, 6, 8)
    pads = case.net.constant(np.array([[0, 0], [1, 0], [0, 0], [0, 0]], np.int32))
    number = case.net.constant(np.array([7], np.int8), case.net.tensors[source].quant)
    case.net.node("PADV2", [source, pads, number], result)
    difference, compiled = worst(case.net.model([source], [result]))
    assert difference == 0
    assert [i.opcode.name for i in compiled.instructions] == ["PAD"]


@pytest.mark.parametrize("kind", ["SPLIT", "SPLIT_V", "UNPACK"])
def test_several_results(kind: str) -> None:
    case = Case("int8")
    source = case.activation(1, 4, 6, 8)
    axis = case.net.constant(np.array(2, np.int32))
    sizes = {"SPLIT": [3, 3], "SPLIT_V": [1, 5], "UNPACK": [1] * 6}[kind]
    shapes = [(1, 4, 8) if kind == "UNPACK" else (1, 4, size, 8) for size in sizes]
    results = [case.activation(*shape) for shape in shapes]
    split = case.net.constant(np.array(sizes, np.int32))
    inputs = {"SPLIT": [axis, source], "SPLIT_V": [source, split, axis], "UNPACK": [source]}[kind]
    options = {"Axis": 2, "Num": 6} if kind == "UNPACK" else {"NumSplits": 2}
    case.net.several(kind, inputs, results, **options)
    difference, compiled = worst(case.net.model([source], results))
    assert difference == 0
    assert [type(section) for section in compiled.sections] == [NpuSection]


def test_pack() -> None:
    case = Case("int8")
    sources = [case.activation(1, 4, 5) for _ in range(3)]
    result = case.net.node("PACK", sources, case.activation(1, 4, 3, 5), Axis=2, ValuesCount=3)
    difference, compiled = worst(case.net.model(sources, [result]))
    assert difference == 0
    assert [type(section) for section in compiled.sections] == [NpuSection]


@pytest.mark.parametrize(
    ("kind", "constants", "source", "shape", "options"),
    [
        ("TRANSPOSE", [[1, 0]], (1, 1), (1, 1), {}),
        ("GATHER", [[0]], (1, 6), (1, 6), {"Axis": 0}),
        ("TILE", [[2, 1]], (1, 6), (2, 6), {}),
        ("PAD", [[[1, 0], [0, 0]]], (1, 6), (2, 6), {}),
    ],
)
def test_what_mixes_the_entries_of_a_batch_is_refused(
    kind: str, constants: list[Any], source: Any, shape: Any, options: dict[str, Any]
) -> None:
    net = Net()
    x, y = net.tensor(source), net.tensor(shape)
    held = [net.constant(np.array(data, np.int32)) for data in constants]
    net.node(kind, [x, *held], y, **options)
    model = net.model([x], [y])
    compile(model)
    with pytest.raises(InvalidModel, match=f"{kind}_0.*batch"):
        compile(model, CompilerOptions(batch_size=2))
