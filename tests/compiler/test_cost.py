"""Cycles: the units' figures, and one function for every opcode."""

import pytest

from furiosa.compiler.cdfg.ir import Split
from furiosa.compiler.cdfg.shares import cycles_by_pe, reading, shares
from furiosa.compiler.cost import (
    CLOCK_HZ,
    DRAM_BYTES,
    MACS,
    WORK,
    Piece,
    cycles,
    dram_cycles,
    link_cycles,
)
from furiosa.enf.isa import Opcode
from support.npu_graphs import Plan
from support.npu_nodes import SAMPLES, Sample

NAMES = [f"{n}-{sample.node.name}" for n, sample in enumerate(SAMPLES)]


def whole(sample: Sample, split: Split = Split.NONE) -> dict[int, int]:
    result = sample.result
    made = shares(result.shape, 1 if split is Split.NONE else 3, split)
    wanted = reading(sample.node, sample.shapes, result.shape, made)
    return cycles_by_pe(sample.node, sample.sources, result, made, wanted)


def test_the_units_are_those_of_the_card() -> None:
    assert pytest.approx(32e12, rel=0.03) == 2 * MACS * CLOCK_HZ  # a PE's operations a second
    assert DRAM_BYTES * CLOCK_HZ == 66e9


def test_every_opcode_has_its_cost() -> None:
    assert set(WORK) == set(Opcode)


@pytest.mark.parametrize("sample", SAMPLES, ids=NAMES)
def test_what_a_pe_does_takes_time(sample: Sample) -> None:
    (found,) = whole(sample).values()
    assert (found > 0) == (sample.node.opcode is not Opcode.LOAD)


@pytest.mark.parametrize("sample", SAMPLES, ids=NAMES)
def test_half_the_work_takes_no_longer(sample: Sample) -> None:
    (all_,) = whole(sample).values()
    assert all(part <= all_ for part in whole(sample, Split.IMAGES).values())


def test_a_convolution_is_bound_by_its_products() -> None:
    plan = Plan()
    plan.conv(plan.input(1, 256, 32, 32), 256, 3)
    (section,) = plan.sections
    node = section.nodes[0]
    found = cycles(node, [Piece((1, 256, 32, 32), 1)], Piece((1, 256, 32, 32), 1))  # type: ignore[arg-type]
    assert found == 256 * 256 * 9 * 32 * 32 // 8192


def test_a_table_is_bound_by_its_bytes() -> None:
    plan = Plan()
    plan.table(plan.input(1, 256, 32, 32))
    (section,) = plan.sections
    node = section.nodes[0]
    found = cycles(node, [Piece((1, 256, 32, 32), 1)], Piece((1, 256, 32, 32), 1))  # type: ignore[arg-type]
    assert found == 2 * 256 * 32 * 32 // 128


def test_bytes_are_rounded_up_to_cycles() -> None:
    assert [dram_cycles(n) for n in (0, 1, 33, 34)] == [0, 1, 1, 2]
    assert [link_cycles(n) for n in (0, 1, 128, 129)] == [0, 1, 1, 2]
