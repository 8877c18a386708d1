"""Tensors of the API before SDK 0.10."""

from typing import Any

import numpy as np
import pytest

from furiosa.runtime import DataType, TensorDesc
from support.deprecated import quietly

tensor = quietly("furiosa.runtime.tensor")
errors = quietly("furiosa.runtime.errors")
DESC = TensorDesc("x", (2, 3), DataType.FLOAT32)


def made(*values: float) -> Any:
    return tensor.TensorArray.of([np.full((2, 3), value, np.float32) for value in values])


def test_an_array_of_tensors_is_a_list() -> None:
    array = made(1, 2)
    assert issubclass(tensor.TensorArray, list)
    assert [type(each) for each in array] == [tensor.Tensor] * 2
    assert not array.is_empty()
    assert tensor.TensorArray().is_empty()


def test_assignment_copies() -> None:
    array, data = made(1, 2), np.full((2, 3), 7, np.float32)
    before = array[1]
    array[1] = data
    data[:] = 0
    assert array[1] is before
    assert before.sum() == 42
    array[:] = [data, data]
    assert array == made(0, 0)


@pytest.mark.parametrize(
    ("data", "kind"),
    [(np.zeros((3, 2), np.float32), ValueError), (np.zeros((2, 3), np.int8), TypeError)],
)
def test_only_a_tensor_of_the_same_kind_is_copied(data: Any, kind: type[Exception]) -> None:
    array = made(1)
    with pytest.raises(
        errors.InvalidInput, match=r"^expected \(2, 3\) \(float32\) but got "
    ) as caught:
        array[0] = data
    assert isinstance(caught.value, kind)
    assert array == made(1)


def test_a_view_shares_memory_and_a_copy_does_not() -> None:
    array = made(1)
    (view,), (copy,) = array.view(), array.numpy()
    array[0][0, 0] = 9
    assert (view[0, 0], copy[0, 0]) == (9, 1)
    assert type(view) is type(copy) is np.ndarray


def test_a_copy_of_strided_data_is_contiguous() -> None:
    strided = np.zeros((4, 6), np.float32)[::2, ::2].view(tensor.Tensor)
    assert strided.shape == (2, 3)
    assert not strided.view().flags.c_contiguous
    assert strided.numpy().flags.c_contiguous


def test_equal_content_is_equal() -> None:
    one, other = made(1)[0], made(2)[0]
    assert one == made(1)[0]
    assert not one != made(1)[0]  # noqa: SIM202 - another method
    assert one != other
    assert not one == other  # noqa: SIM201 - another method
    assert made(1, 2) == made(1, 2)
    assert made(1, 2) != made(2, 1)


def test_content_of_another_type_or_shape_is_not_equal() -> None:
    one = made(1)[0]
    for other in (one.astype(np.float64), one[:1], one[:, :2], one.reshape(6)):
        assert one != other
        assert not one == other  # noqa: SIM201 - another method
    assert one != "text"
    assert one == one.view()


def test_a_comparison_is_one_of_arrays_to_who_looks_at_elements() -> None:
    tensor = made(1)[0]
    tensor[0, 0] = 3
    assert (tensor == made(1)[0]).sum() == 5
    assert (tensor != made(1)[0]).sum() == 1
    np.testing.assert_array_equal(
        tensor == tensor.max(axis=1, keepdims=True), [[1, 0, 0], [1, 1, 1]]
    )
    np.testing.assert_array_equal(tensor[tensor == 3], [3])


def test_a_tensor_works_as_an_array_does() -> None:
    one = made(2)[0]
    assert float((one * 2).sum()) == 24
    assert one.argmax() == 0
    with pytest.raises(TypeError, match="unhashable"):
        hash(one)


def test_the_older_name_of_its_type_warns() -> None:
    with pytest.warns(
        FutureWarning, match=r"'Tensor.numpy_dtype' is deprecated; use 'Tensor.dtype'"
    ):
        assert made(1)[0].numpy_dtype is np.float32


@pytest.mark.parametrize("value", [DESC, DataType.FLOAT32, np.float32, "float32", made(1)[0]])
def test_the_numpy_type_of_what_has_one(value: object) -> None:
    assert tensor.numpy_dtype(value) == np.float32


@pytest.mark.parametrize("value", ["complex64", object(), None])
def test_no_numpy_type_of_anything_else(value: object) -> None:
    with pytest.raises(errors.UnsupportedDataType, match=r"^unknown data type: ") as caught:
        tensor.numpy_dtype(value)
    assert isinstance(caught.value, ValueError)


def test_zeros_and_random_numbers_for_a_description() -> None:
    assert tensor.zeros(DESC).sum() == 0
    for dtype in (DataType.FLOAT32, DataType.FLOAT16, DataType.INT8, DataType.INT64, DataType.BOOL):
        desc = TensorDesc("x", (64, 64), dtype)
        drawn = tensor.rand(desc)
        assert (drawn.shape, drawn.dtype) == (desc.shape, dtype.numpy)
        assert len(np.unique(drawn)) > 1
    assert tensor.rand(TensorDesc("x", (4000,), DataType.UINT8)).max() == 255


def test_the_older_places_of_current_types() -> None:
    import furiosa.runtime

    for name in ("Axis", "DataType", "TensorDesc"):
        assert getattr(tensor, name) is getattr(furiosa.runtime, name)
