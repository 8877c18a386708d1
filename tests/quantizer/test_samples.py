"""Random data for a model: types, ranges, and whose."""

import itertools

import numpy as np
import pytest
from onnx import ModelProto, TensorProto, helper

from furiosa.quantizer.samples import COUNT, samples


def a_model(kind: int, shape: list[int], constant: str = "") -> ModelProto:
    """Inputs `x` and `w`; `constant` is an initialiser, too."""
    inputs = [helper.make_tensor_value_info(name, kind, shape) for name in ("x", "w")]
    values = np.zeros(shape, helper.tensor_dtype_to_np_dtype(kind))
    tensors = [helper.make_tensor(constant, kind, shape, values.ravel())] if constant else []
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "w"], ["y"])], "g", inputs, [], tensors
    )
    return helper.make_model(graph)


def test_r52_there_are_eight_samples_and_the_same_each_time() -> None:
    model = a_model(TensorProto.FLOAT, [2, 3])
    first, second = list(samples(model)), list(samples(model))
    assert len(first) == COUNT == 8
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a, b)
    assert not any(np.array_equal(a[0], b[0]) for a, b in itertools.combinations(first, 2))


def test_initialisers_get_no_data() -> None:
    assert all(len(sample) == 1 for sample in samples(a_model(TensorProto.FLOAT, [3], "w")))


@pytest.mark.parametrize("kind", [TensorProto.FLOAT16, TensorProto.FLOAT, TensorProto.DOUBLE])
def test_floats_are_standard_normal(kind: int) -> None:
    values = np.concatenate([np.ravel(s[0]) for s in samples(a_model(kind, [100, 100]))])
    assert values.dtype == helper.tensor_dtype_to_np_dtype(kind)
    assert abs(values.astype(np.float64).mean()) < 0.02
    assert abs(values.astype(np.float64).std() - 1) < 0.02


@pytest.mark.parametrize(
    "kind",
    [
        *(TensorProto.INT8, TensorProto.INT16, TensorProto.INT32, TensorProto.INT64),
        *(TensorProto.UINT8, TensorProto.UINT16, TensorProto.UINT32, TensorProto.UINT64),
    ],
)
def test_integers_are_uniform_over_their_type(kind: int) -> None:
    values = np.concatenate([np.ravel(s[0]) for s in samples(a_model(kind, [100, 100]))])
    limits = np.iinfo(values.dtype)
    assert values.dtype == helper.tensor_dtype_to_np_dtype(kind)
    if values.dtype.itemsize == 1:
        assert {values.min(), values.max()} == {limits.min, limits.max}
    counts, _ = np.histogram(values.astype(np.float64), 8, (float(limits.min), float(limits.max)))
    assert counts.min() > 0.9 * len(values) / 8


@pytest.mark.parametrize("kind", [TensorProto.BOOL, TensorProto.BFLOAT16, TensorProto.INT4])
def test_another_type_is_named(kind: int) -> None:
    with pytest.raises(NotImplementedError, match=rf"{TensorProto.DataType.Name(kind)} .* 'x'"):
        next(samples(a_model(kind, [2])))
