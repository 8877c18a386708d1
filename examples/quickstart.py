"""From a trained float model to answers from a leased NPU, in one readable script.

    python examples/quickstart.py

Quantises examples/data/digits_cnn.onnx with 200 real images, compiles it, leases two fused cores of a
Warboy (virtual ones when there is no card), and classifies 1,000 images it has never seen. What is
expensive is kept in .cache/quickstart and made again only when its inputs change.
"""

import hashlib
import os
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx

from furiosa.optimizer import optimize_model
from furiosa.quantizer import CalibrationMethod, Calibrator, quantize
from furiosa.runtime.sync import create_runner

HERE = Path(__file__).resolve().parent
CACHE = HERE.parent / ".cache" / "quickstart"
BIN = Path(sys.executable).parent
DEVICE = "warboy(2)*1"  # any one pair of fused cores

Image = npt.NDArray[np.float32]  # [1, 1, 28, 28], 0..1
Classify = Callable[[Image], npt.NDArray[np.float32]]  # to logits [1, 10]


def main() -> None:
    os.environ.setdefault("FURIOSA_EMULATE", "2")  # cards of the broker this may start
    data = np.load(HERE / "data" / "digits.npz")
    calibration = as_input(data["calibration_images"])
    images, labels = as_input(data["test_images"]), data["test_labels"]

    headline("The cards")
    show("furiosactl", "info")
    show("furiosactl", "list")

    headline("Quantise: float32 to int8")
    float_model = HERE / "data" / "digits_cnn.onnx"
    int8_model = cached(
        "digits_int8.onnx",
        [float_model.read_bytes(), calibration.tobytes()],
        lambda out: out.write_bytes(quantised(float_model, calibration)),
    )

    headline("Compile: ONNX to an executable NPU program (ENF)")
    program = int8_model.with_suffix(".enf")
    show("furiosa-compiler", str(int8_model), "-o", str(program))

    headline(f"Run on {DEVICE}")
    before = {
        "float model on the CPU": accuracy(on_cpu(float_model), images, labels),
        "int8 model on the CPU": accuracy(on_cpu(int8_model), images, labels),
    }
    with create_runner(program, device=DEVICE) as runner:
        runner.model.print_summary()
        show("furiosactl", "list")
        show("furiosactl", "ps")
        answers, seconds = [], []
        for image in images:
            start = time.perf_counter()
            (logits,) = runner.run([image])
            seconds.append(time.perf_counter() - start)
            answers.append(int(logits.argmax()))
    right = np.array(answers) == labels

    for name, share in (before | {"int8 program on the NPU": right.mean()}).items():
        print(f"accuracy, {name:24}{share:8.2%} of {len(images)}")
    p50, p99 = np.percentile(seconds, [50, 99]) * 1e6
    print(f"latency p50 {p50:.0f} us, p99 {p99:.0f} us; {len(images) / sum(seconds):.0f} images/s")
    print(f"\nThis image is a {answers[0]}, says the NPU (its label says {labels[0]}):")
    draw(images[0])

    headline("After the lease")
    show("furiosactl", "list")


def as_input(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """[N, 28, 28] of 0..255 to [N, 1, 1, 28, 28] of 0..1, as the model was trained."""
    return (pixels.astype(np.float32) / np.float32(255)).reshape(-1, 1, 1, 28, 28)


def quantised(path: Path, calibration: npt.NDArray[np.float32]) -> bytes:
    model = optimize_model(onnx.load(path))
    calibrator = Calibrator(model, CalibrationMethod.MIN_MAX_ASYM)
    for done, image in enumerate(calibration, start=1):
        calibrator.collect_data([[image]])
        progress("calibrating", done, len(calibration))
    return quantize(model, calibrator.compute_range())


def on_cpu(path: Path) -> Classify:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda image: session.run(None, {name: image})[0]


def accuracy(classify: Classify, images: Image, labels: npt.NDArray[np.int64]) -> float:
    answers = [int(classify(image).argmax()) for image in images]
    return float((np.array(answers) == labels).mean())


def cached(name: str, inputs: list[bytes], make: Callable[[Path], object]) -> Path:
    """The file `name`, made by `make` unless it was made from the same inputs before."""
    key = hashlib.sha256(version("furiosa-broker").encode())
    for content in inputs:
        key.update(hashlib.sha256(content).digest())
    folder = CACHE / key.hexdigest()[:16]
    path = folder / name
    if path.exists():
        print(f"{name}: unchanged, kept from an earlier run")
    else:
        # renamed when complete: a killed run leaves no half file
        fresh = folder.with_suffix(".new")
        fresh.mkdir(parents=True, exist_ok=True)
        make(fresh / name)
        fresh.replace(folder)
        print(f"{name}: {path.stat().st_size:,} bytes")
    return path


def show(program: str, *arguments: str) -> None:
    """Print a command and what it prints."""
    shown = [Path(a).name if os.sep in a else a for a in arguments]
    print(f"$ {program} {' '.join(shown)}", flush=True)
    subprocess.run([BIN / program, *arguments], check=True)
    print(flush=True)


def headline(text: str) -> None:
    print(f"\n== {text} {'=' * (76 - len(text))}", flush=True)


def progress(what: str, done: int, total: int) -> None:
    """A bar that fills; in a file or a pipe only the full one."""
    if done < total and not sys.stdout.isatty():
        return
    width = 40
    filled = width * done // total
    end = "\n" if done == total else ""
    print(f"\r{what} [{'#' * filled}{'.' * (width - filled)}] {done}/{total}", end=end, flush=True)


def draw(image: Image) -> None:
    """Two rows of pixels in one row of text."""
    shades = " .:-=+*#%@"
    for row in image[0, 0, ::2]:
        print("    " + "".join(shades[int(pixel * 9.99)] * 2 for pixel in row))


if __name__ == "__main__":
    main()
