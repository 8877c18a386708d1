"""Parts of tensors, against the arithmetic itself: nothing outside the part that is read matters."""

from typing import Any

import numpy as np
import pytest

from furiosa.compiler.cdfg.boxes import Box, common, cut, elements, read, whole
from furiosa.enf.isa import Opcode
from furiosa.vnpu.kernels import KERNELS, Result
from support.npu_nodes import SAMPLES, Sample

NAMES = [f"{n}-{sample.node.name}" for n, sample in enumerate(SAMPLES)]


def computed(sample: Sample, sources: list[Any]) -> Any:
    node: Any = sample.node  # has the fields of an instruction
    fields = (node.weights, node.bias, node.multiplier, node.parameters)
    constants = [data for data in fields if data is not None]
    result = Result(np.dtype(sample.result.dtype.value), sample.result.shape)
    return np.asarray(KERNELS[node.opcode](node, result, *sources, *constants))


def at(box: Box) -> tuple[slice, ...]:
    return tuple(slice(first, first + count) for first, count in box)


def boxes_of(shape: tuple[int, ...], rng: np.random.Generator) -> list[Box]:
    """All of it, every half along every axis, and some at random."""
    found = [whole(shape)]
    for axis, size in enumerate(shape):
        if size > 1:
            each = -(-size // 2)
            found += [cut(shape, axis, 0, each), cut(shape, axis, each, size - each)]
    for _ in range(6):
        firsts = [int(rng.integers(size)) for size in shape]
        box = [(a, int(rng.integers(1, n - a + 1))) for a, n in zip(firsts, shape, strict=True)]
        found.append(tuple(box))
    return found


def drawn(sample: Sample, rng: np.random.Generator) -> list[Any]:
    return [
        rng.integers(-128, 128, source.shape).astype(source.dtype.value)
        for source in sample.sources
    ]


def test_there_is_a_sample_of_every_opcode() -> None:
    assert {sample.node.opcode for sample in SAMPLES} == set(Opcode)


@pytest.mark.parametrize("sample", SAMPLES, ids=NAMES)
def test_what_is_not_read_does_not_matter(sample: Sample) -> None:
    rng = np.random.default_rng(7)
    for box in boxes_of(sample.result.shape, rng):
        sources = drawn(sample, rng)
        expected = computed(sample, sources)[at(box)]
        changed = drawn(sample, rng)
        parts = read(sample.node, sample.shapes, sample.result.shape, box)
        for new, old, part in zip(changed, sources, parts, strict=True):
            for (first, count), size in zip(part, old.shape, strict=True):
                assert 0 <= first <= first + count <= size
            new[at(part)] = old[at(part)]
        assert np.array_equal(computed(sample, changed)[at(box)], expected)


@pytest.mark.parametrize("sample", SAMPLES, ids=NAMES)
def test_all_of_the_result_reads_no_more_than_there_is(sample: Sample) -> None:
    result = sample.result.shape
    for part, shape in zip(
        read(sample.node, sample.shapes, result, whole(result)), sample.shapes, strict=True
    ):
        assert elements(part) <= np.prod(shape)


@pytest.mark.parametrize(
    ("opcode", "axis", "expected"),
    [
        (Opcode.CONV2D, 2, 2 * 4 * 4 * 9),  # rows 0..1 of 4: windows of 3 rows, moved by 2, after 1
        (Opcode.CONV2D, 1, 2 * 4 * 8 * 9),  # every channel; no window reaches the last row
        (Opcode.MAX_POOL2D, 1, 2 * 2 * 8 * 9),
        (Opcode.TABLE, 2, 2 * 4 * 5 * 9),
        (Opcode.TRANSPOSE, 1, 2 * 4 * 5 * 9),  # axis 1 of the result is axis 2 of the source
        (Opcode.RESHAPE, 0, 4 * 9 * 9),
        (Opcode.SOFTMAX, 1, 2 * 4 * 9 * 9),
    ],
)
def test_a_part_reads_no_more_than_it_must(opcode: Opcode, axis: int, expected: int) -> None:
    sample = next(sample for sample in SAMPLES if sample.node.opcode is opcode)
    shape = sample.result.shape
    box = cut(shape, axis, 0, -(-shape[axis] // 2))
    assert elements(read(sample.node, sample.shapes, shape, box)[0]) == expected


def test_halves_of_a_flattened_image_are_its_channels() -> None:
    (sample,) = (s for s in SAMPLES if s.result.shape == (1, 1, 8, 3))
    box = cut(sample.result.shape, 2, 4, 4)  # elements 12..23 of 24
    assert read(sample.node, sample.shapes, sample.result.shape, box) == (cut((1, 6, 4), 1, 3, 3),)


def test_what_boxes_share_is_counted_in_elements() -> None:
    left, right = cut((4, 6), 0, 1, 3), cut((4, 6), 1, 4, 2)
    assert common(left, right) == 6
    assert common(left, left) == 18
    assert common(left, cut((4, 6), 0, 0, 1)) == 0
