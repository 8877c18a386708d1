"""What a calibrator sees, what it refuses, and what it reports."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import ModelProto

from furiosa.optimizer import optimize_model
from furiosa.quantizer import CalibrationMethod, Calibrator
from support.onnx_models import Builder, random_conv_net, run

Floats = npt.NDArray[np.float32]


def two_inputs() -> ModelProto:
    """y = relu(conv(a)) + b; only `a`, the Relu's result, `b` and `y` are ever stored."""
    net = Builder()
    a, b = net.input("a", [1, 2, 4, 4]), net.input("b", [1, 3, 4, 4])
    x = net.node("Relu", net.conv(a, 2, 3), result="x")
    return net.model(net.node("Add", x, b, result="y"))


def samples(count: int, seed: int = 0) -> list[list[Floats]]:
    rng = np.random.default_rng(seed)
    shapes = [1, 2, 4, 4], [1, 3, 4, 4]
    return [[rng.standard_normal(s, np.float32) for s in shapes] for _ in range(count)]


def test_ranges_are_those_of_the_stored_tensors() -> None:
    model, data = two_inputs(), samples(5)
    calibrator = Calibrator(model, CalibrationMethod.MIN_MAX_ASYM)
    calibrator.collect_data(data)
    model.graph.output.append(onnx.ValueInfoProto(name="x"))
    seen = {
        "a": [a for a, _ in data],
        "b": [b for _, b in data],
        "y": [run(model, *sample)[0] for sample in data],
        "x": [run(model, *sample)[1] for sample in data],
    }
    found = calibrator.compute_range()
    assert set(found) == set(seen)
    for name, arrays in seen.items():
        assert found[name] == pytest.approx((np.min(arrays), np.max(arrays)), abs=1e-6)


@pytest.mark.parametrize("method", CalibrationMethod)
def test_data_may_come_in_portions_and_as_a_stream(method: CalibrationMethod) -> None:
    def stream() -> Iterator[tuple[Floats, ...]]:
        yield from map(tuple, samples(6))

    whole = Calibrator(two_inputs(), method)
    whole.collect_data(stream())
    parts = Calibrator(two_inputs(), method)
    parts.collect_data(samples(6)[:2])
    parts.collect_data([])
    first = parts.compute_range()
    parts.collect_data(samples(6)[2:])
    assert parts.compute_range() == whole.compute_range() != first


def test_the_optimized_and_the_original_model_give_the_same_ranges() -> None:
    model = random_conv_net(3)
    data = [[np.random.default_rng(0).standard_normal([1, 4, 12, 12], np.float32)]]
    found = []
    for version in (model, model.SerializeToString(), optimize_model(model)):
        calibrator = Calibrator(version, CalibrationMethod.MSE_ASYM)
        calibrator.collect_data(data)
        found.append(calibrator.compute_range())
    assert found[0] == found[1] == found[2]


def test_what_moves_values_about_has_its_operand_s_range() -> None:
    net = Builder()
    x = net.node("Relu", net.input("x", [1, 2, 4, 4]))
    pooled = net.node("MaxPool", x, kernel_shape=[2, 2])
    model = net.model(net.node("Flatten", pooled, result="y"))
    calibrator = Calibrator(model, CalibrationMethod.MIN_MAX_ASYM)
    calibrator.collect_data([[np.arange(-16, 16, dtype=np.float32).reshape(1, 2, 4, 4)]])
    found = calibrator.compute_range()
    assert found == {"x": (-16, 15), x: (0, 15), pooled: (0, 15), "y": (0, 15)}


def test_computing_before_any_data_is_refused() -> None:
    calibrator = Calibrator(two_inputs(), CalibrationMethod.MIN_MAX_ASYM)
    calibrator.collect_data([])
    message = "^collect_data must be called before compute_range$"
    with pytest.raises(RuntimeError, match=message):
        calibrator.compute_range()


A, B = samples(1)[0]


@pytest.mark.parametrize(
    ("sample", "message"),
    [
        ([A], "sample 1 has 1 arrays, the model has 2 inputs: 'a', 'b'"),
        ([A, B, B], "sample 1 has 3 arrays"),
        ([B, A], r"sample 1: input 'a' must be float32\[1, 2, 4, 4\], it is float32\[1, 3, 4, 4\]"),
        ([A, B.astype(np.float64)], r"input 'b' must be float32\[1, 3, 4, 4\], it is float64"),
        ([A, B.tolist()], r"input 'b' must be float32\[1, 3, 4, 4\], it is list"),
    ],
)
def test_a_sample_that_does_not_fit_is_refused_by_name(sample: list[Floats], message: str) -> None:
    calibrator = Calibrator(two_inputs(), CalibrationMethod.MIN_MAX_ASYM)
    with pytest.raises(ValueError, match=message):
        calibrator.collect_data([[A, B], sample])


@pytest.mark.parametrize("method", [CalibrationMethod.MIN_MAX_ASYM, CalibrationMethod.MSE_SYM])
def test_a_tensor_that_is_not_finite_is_named(method: CalibrationMethod) -> None:
    calibrator = Calibrator(two_inputs(), method)
    with pytest.raises(ValueError, match="tensor 'b' of sample 0: a value is not finite"):
        calibrator.collect_data([[A, np.full_like(B, np.nan)]])


@pytest.mark.parametrize("percentage", [0, -1, 100.1, float("nan")])
def test_a_percentage_outside_its_bounds_is_refused(percentage: float) -> None:
    with pytest.raises(ValueError, match="percentage must be above 0 and at most 100"):
        Calibrator(two_inputs(), CalibrationMethod.PERCENTILE_ASYM, percentage=percentage)


def test_a_smaller_percentage_keeps_less() -> None:
    widths = []
    for percentage in (100, 99, 80):
        calibrator = Calibrator(
            two_inputs(), CalibrationMethod.PERCENTILE_SYM, percentage=percentage
        )
        calibrator.collect_data(samples(20))
        widths.append(calibrator.compute_range()["a"][1])
    assert widths == sorted(widths, reverse=True)
    assert len(set(widths)) == 3


def test_an_unknown_method_is_refused() -> None:
    with pytest.raises(ValueError, match="10 is not a valid CalibrationMethod"):
        Calibrator(two_inputs(), 10)  # type: ignore[arg-type]  # what a caller without types may do


def test_verbose_draws_a_bar_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    calibrator = Calibrator(two_inputs(), CalibrationMethod.MIN_MAX_ASYM)
    calibrator.collect_data(samples(1))
    calibrator.compute_range()
    assert capsys.readouterr() == ("", "")
    calibrator.compute_range(verbose=True)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.endswith(f"[{'#' * 30}] 4/4\n")
