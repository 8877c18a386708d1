"""Whole networks, with random weights: they go through, and keep most of what they computed."""

import os

import numpy as np
import onnx
import pytest

from furiosa.optimizer import optimize_model
from furiosa.quantizer import CalibrationMethod, Calibrator, quantize
from support.onnx_models import random_inputs, run
from support.topologies import TOPOLOGIES, topology

LARGE = ("densenet121", "inception_v2", "resnet50", "vgg19", "zfnet512")  # seconds each


@pytest.mark.parametrize("name", TOPOLOGIES)
def test_a_network_computes_nearly_the_same_on_integers(name: str) -> None:
    """And does nothing else on floats than the local response normalisation that some have."""
    if name in LARGE and not os.environ.get("FURIOSA_TEST_MODELS"):
        pytest.skip("FURIOSA_TEST_MODELS is not set: only small networks")
    model = topology(name)
    inputs = random_inputs(model)
    (expected,) = run(model, *inputs)
    optimized = optimize_model(model)
    (same,) = run(optimized, *inputs)
    np.testing.assert_allclose(same, expected, atol=1e-4)

    calibrator = Calibrator(optimized, CalibrationMethod.MIN_MAX_ASYM)
    calibrator.collect_data([inputs])
    int8 = quantize(optimized, calibrator.compute_range())
    (found,) = run(int8, *inputs)
    assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.97

    nodes = onnx.load_from_string(int8).graph.node
    makers = {result: node.op_type for node in nodes for result in node.output}
    for node in nodes:
        if node.op_type not in ("QuantizeLinear", "DequantizeLinear", "LRN"):
            sources = {makers[operand] for operand in node.input if operand in makers}
            fused = node.op_type == "Relu" and sources <= {"Conv", "Gemm", "Add"}
            assert fused or sources == {"DequantizeLinear"}, node.name
