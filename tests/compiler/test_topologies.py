"""Whole networks with random weights compile and answer like onnxruntime, in float and quantised.

Quantised they are compared tensor by tensor, each with what onnxruntime makes of the tensors before it
(support.cut_models): convolutions to the bit, all else to within 1 LSB.
"""

import os

import numpy as np
import onnx
import pytest

from furiosa.enf import Program
from furiosa.vnpu import Engine
from support.cut_models import Array, Cuts, opened
from support.onnx_models import random_inputs, run
from support.products import host_operators, npu_share
from support.qdq_nets import TARGETS, program
from support.quantized import Quantized
from support.topologies import TOPOLOGIES, topology

# seconds each, of which most go into sessions of onnxruntime and into the quantiser
LARGE_IN_FLOAT = ("densenet121", "inception_v2", "resnet50", "vgg19", "zfnet512")
LARGE = ("vgg19",)
# Local response normalisation is no operator of the NPU; nothing is multiplied on the host.
ON_HOST = {name: {"LRN"} for name in ("bvlc_alexnet", "inception_v1", "zfnet512")}


def skip_large(name: str, large: tuple[str, ...]) -> None:
    if name in large and not os.environ.get("FURIOSA_TEST_MODELS"):
        pytest.skip("FURIOSA_TEST_MODELS is not set: only small networks")


def answers(compiled: Program, inputs: list[Array]) -> list[Array]:
    engine = Engine(compiled)
    found = engine.run(inputs)
    engine.close()
    return found


@pytest.mark.parametrize("name", TOPOLOGIES)
def test_a_network_in_float_answers_like_onnxruntime(name: str) -> None:
    skip_large(name, LARGE_IN_FLOAT)
    model = topology(name)
    inputs = random_inputs(model)
    (wanted,) = run(model, *inputs)
    for target in TARGETS:
        (found,) = answers(program(model, target=target), inputs)
        np.testing.assert_allclose(found, wanted, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", TOPOLOGIES)
def test_a_quantised_network_runs_on_the_npu_and_answers_like_onnxruntime(name: str) -> None:
    skip_large(name, LARGE)
    model = onnx.shape_inference.infer_shapes(Quantized.of(topology(name), samples=1).model)
    inputs = random_inputs(model, seed=3)
    shown = opened(model)
    names = [info.name for info in shown.graph.output]
    stored = dict(zip(names, answers(program(shown), inputs), strict=True))
    known = {model.graph.input[0].name: inputs[0], **stored}
    cuts = Cuts(model, exact=False)
    for tensor, wanted in cuts.answers(known).items():
        worst = np.abs(known[tensor].astype(np.float64) - wanted).max()
        assert worst <= cuts.tolerance(tensor), tensor
    for target in TARGETS:
        compiled = program(model, target=target)
        assert npu_share(compiled) == 1
        assert host_operators(compiled) == ON_HOST.get(name, set())
        (found,) = answers(compiled, inputs)
        np.testing.assert_array_equal(found, stored[model.graph.output[0].name])
