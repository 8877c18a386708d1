"""Axes and extents of ports: kept by the file, and checked."""

from dataclasses import replace

import numpy as np
import pytest

from furiosa.common.errors import InvalidProgram
from furiosa.enf import read, write
from furiosa.enf.program import Program
from support.random_programs import random_program


@pytest.fixture
def program() -> Program:
    """One whose first input has at least two dimensions."""
    rng = np.random.default_rng(5)
    return next(
        p for p in iter(lambda: random_program(rng), None) if len(p.input_specs[0].shape) > 1
    )


def formed(program: Program, axes: str, extent: tuple[int, ...]) -> Program:
    first, *others = program.inputs
    return replace(program, inputs=(replace(first, axes=axes, extent=extent), *others))


def test_forms_survive_the_file(program: Program) -> None:
    shape = program.input_specs[0].shape
    axes, extent = "N" + "?" * (len(shape) - 1), (*shape[:-1], max(shape[-1] - 1, 1))
    (spec, *_) = read(write(formed(program, axes, extent))).input_specs
    assert (spec.axes, spec.extent) == (axes, extent)


def test_forms_that_do_not_fit_are_refused(program: Program) -> None:
    shape = program.input_specs[0].shape
    wrong = [
        ("N", ()),
        ("X" * len(shape), ()),
        ("", shape[:-1]),
        ("", (*shape[:-1], shape[-1] + 1)),
        ("", (0, *shape[1:])),
    ]
    for axes, extent in wrong:
        with pytest.raises(InvalidProgram) as caught:
            write(formed(program, axes, extent))
        assert caught.value.rule == "ports-are-sound"
