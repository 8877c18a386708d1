"""The shipped model, from float to the NPU, on images it has never seen."""

import numpy as np
import onnxruntime
import pytest

from furiosa.enf import HostSection, Opcode, read
from furiosa.runtime import sync
from furiosa.vnpu.engine import Engine
from furiosa.vnpu.interpreter import Interpreter
from support import digits
from support.daemon import Daemon


def accuracy(outputs: list[np.ndarray]) -> float:
    answers = np.array([int(output.argmax()) for output in outputs])
    return float((answers == digits.held_out_labels()[: len(outputs)]).mean())


def test_the_program_on_the_npu_is_as_good_as_the_float_model(daemon: Daemon) -> None:
    images = digits.held_out_images()
    session = onnxruntime.InferenceSession(
        str(digits.FLOAT_MODEL), providers=["CPUExecutionProvider"]
    )
    float_accuracy = accuracy([session.run(None, {"image": image})[0] for image in images])
    with sync.create_runner(digits.program("warboy-2pe"), device="warboy(2)*1") as runner:
        npu_accuracy = accuracy([runner.run([image])[0] for image in images])
    assert float_accuracy >= 0.98
    assert abs(float_accuracy - npu_accuracy) <= 0.005


@pytest.mark.parametrize("target", ["warboy", "warboy-2pe"])
def test_interpreter_and_engine_agree_bit_for_bit_on_200_images(target: str) -> None:
    program = read(digits.program(target))
    interpreter = Interpreter(program)
    engine = Engine(program, threads=1 if target == "warboy" else 2)
    for image in digits.held_out_images()[:200]:
        (expected,) = interpreter.run([image])
        (found,) = engine.run([image])
        np.testing.assert_array_equal(found, expected)
    engine.close()


def test_the_whole_network_runs_on_the_npu() -> None:
    program = read(digits.program())
    assert not any(isinstance(section, HostSection) for section in program.sections)
    opcodes = [instruction.opcode for instruction in program.instructions]
    # five convolutions and the Gemm; one depthwise and the global average
    assert opcodes.count(Opcode.CONV2D) == 6
    assert opcodes.count(Opcode.DEPTHWISE_CONV2D) == 2
    assert opcodes.count(Opcode.ADD) == 1
    assert opcodes.count(Opcode.MAX_POOL2D) == 2
