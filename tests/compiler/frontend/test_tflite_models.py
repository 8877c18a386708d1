"""Real TensorFlow Lite models compile for both targets and answer like LiteRT on images."""

import os
from pathlib import Path

import numpy as np
import pytest

from furiosa.common.tensor import TensorSpec
from furiosa.compiler import CompilerOptions, compile
from furiosa.enf import read
from furiosa.vnpu.interpreter import Interpreter
from support import tflite_models as lite
from support.bitmaps import read_bitmap
from support.products import host_operators, npu_share
from support.tflite_models import Array

PHOTOS = ("cat.bmp", "grace_hopper.bmp")
DIGIT = ("mnist_nine.bmp",)

# model: images of the kind it was trained on (for keyword spotting, any numbers), largest difference
MODELS = {
    "MNIST_MobileNet_v2_uint8_quant": (DIGIT, 1),
    "MNISTnet_uint8_quant": (DIGIT, 1),
    "MNISTnet_uint8_quant_without_softmax": (DIGIT, 1),
    "kws_int8": ((*PHOTOS, *DIGIT), 1),
    "mobilenet_v1_0.25_128_quant": (PHOTOS, 5),
    "mobilenet_v2_1.0_224_quant": (PHOTOS, 5),
    "resnet8_cifar10_float": (PHOTOS, 1e-5),
    "resnet8_cifar10_int8": (PHOTOS, 1),
    "tf2_mobilenet_v2_1.0_224_ptq": (PHOTOS, 5),
    "vww_96_int8": (PHOTOS, 1),
}
# What the NPU leaves of a quantised model: nothing, and the softmax of more than two inferences at once.
ON_HOST = {1: set(), 4: {"Softmax", "QuantizeLinear"}}


@pytest.fixture
def folder() -> Path:
    found = os.environ.get("FURIOSA_TEST_MODELS")
    if not found:
        pytest.skip("FURIOSA_TEST_MODELS names no folder with models")
    return Path(found)


def taken(spec: TensorSpec, image: Array) -> Array:
    """The image as the model's input: int8 is the pixel - 128."""
    if spec.dtype.value == "int8":
        return (image.astype(np.int16) - 128).astype(np.int8)
    return image.astype(spec.dtype.numpy)


@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize("target", ["warboy", "warboy-2pe"])
@pytest.mark.parametrize("name", MODELS)
def test_model_answers_like_litert(folder: Path, name: str, target: str, batch: int) -> None:
    """In a batch the others are of zeros, so that each inference is seen to have its own answer."""
    images, most = MODELS[name]
    model = (folder / f"{name}.tflite").read_bytes()
    program = read(compile(model, CompilerOptions(target=target, batch_size=batch)))
    if "float" not in name:
        assert npu_share(program) == 1
        assert host_operators(program) <= ON_HOST[batch]
    (spec,) = program.input_specs
    interpreter = Interpreter(program)
    for index, image in enumerate(images):
        data = taken(spec, read_bitmap(folder / image, *spec.shape[1:]))
        together, place = np.zeros(spec.shape, spec.dtype.numpy), index % batch
        together[place] = data[0]
        (ours,), (theirs,) = interpreter.run([together]), lite.run(model, data)
        assert (ours.shape, ours.dtype) == ((batch, *theirs.shape[1:]), theirs.dtype)
        assert ours[place].argmax() == theirs.argmax()
        assert np.abs(ours[place].astype(np.float64) - theirs[0]).max() <= most


def test_every_model_of_the_folder_is_in_the_table(folder: Path) -> None:
    assert {path.stem for path in folder.glob("*.tflite")} == MODELS.keys()
