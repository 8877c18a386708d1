"""Engines that do as they are told, for workers under test.

A "program" is one of the words below. Its one input and one output are 64 bytes of uint8.
"""

import ctypes
import os
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

from furiosa.broker.workers.child.program import Admit, LoadedProgram
from furiosa.common.errors import InvalidProgram
from furiosa.common.tensor import DType, Quantization, TensorSpec

Array = npt.NDArray[Any]

INVERT = b"invert"  # output = 255 - input
FAIL = b"fail"  # every run raises
HANG = b"hang"  # a run never ends
DIE = b"die"  # a run ends the process with status 7
HANG_ON_LOAD = b"hang on load"
DIE_ON_LOAD = b"die on load"
FAIL_ON_LOAD = b"fail on load"  # with an error that is nobody's fault but ours
MANY = b"many"  # more outputs than a message may name

MEMORY = 1000  # that each asks for

INPUT = TensorSpec("x", DType.UINT8, (1, 64), Quantization(0.5, 3))
OUTPUT = TensorSpec("y", DType.UINT8, (64,))


@dataclass(frozen=True)
class FakeTiming:
    task_ns: int
    tensor_ns: int


@dataclass(frozen=True)
class FakeBound:
    word: bytes
    inputs: Sequence[Array]
    outputs: Sequence[Array]

    def execute(self) -> FakeTiming:
        match self.word:
            case b"fail":
                raise ArithmeticError("told to fail")
            case b"hang":
                signal.pause()
            case b"die":
                os._exit(7)
        self.outputs[0][:] = 255 - self.inputs[0].reshape(-1)
        return FakeTiming(1000, 600)


@dataclass(frozen=True)
class FakeEngine:
    word: bytes

    def bind(self, inputs: Sequence[Array], outputs: Sequence[Array]) -> FakeBound:
        return FakeBound(self.word, inputs, outputs)

    def close(self) -> None:
        pass


def load(data: bytes, pes: int, traced: bool, admit: Admit) -> LoadedProgram:
    admit(MEMORY)
    match data:
        case b"hang on load":
            signal.pause()
        case b"die on load":
            ctypes.string_at(0)
        case b"fail on load":
            raise ArithmeticError("told to fail")
        case b"many":
            return LoadedProgram.of(
                f"{pes}pe", (INPUT,), (OUTPUT,) * 2000, FakeEngine(data), MEMORY
            )
        case b"invert" | b"fail" | b"hang" | b"die":
            return LoadedProgram.of(f"{pes}pe", (INPUT,), (OUTPUT,), FakeEngine(data), MEMORY)
    raise InvalidProgram("word", f"{data!r:.80}")
