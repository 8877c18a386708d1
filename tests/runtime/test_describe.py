import io
from contextlib import redirect_stdout

import numpy as np
import pytest

from furiosa.common.tensor import DType, TensorSpec
from furiosa.runtime import Axis, DataType, Model, TensorDesc

X = TensorDesc("x", (1, 1, 28, 28), DataType.FLOAT32)
Y = TensorDesc("y", (1, 10), DataType.FLOAT32)

SUMMARY = """\
Inputs:
{0: TensorDesc(name="x", shape=(1, 1, 28, 28), dtype=FLOAT32, format=NCHW, size=3136, len=784)}
Outputs:
{0: TensorDesc(name="y", shape=(1, 10), dtype=FLOAT32, format=??, size=40, len=10)}"""


def test_summary_is_the_published_text() -> None:
    assert Model([X], [Y]).summary() == SUMMARY


def test_several_tensors_share_a_line() -> None:
    text = Model([X, Y], [Y]).summary().splitlines()[1]
    assert text == f"{{0: {X!r}, 1: {Y!r}}}"


def test_print_summary_prints_it() -> None:
    out = io.StringIO()
    with redirect_stdout(out):
        Model([X], [Y]).print_summary()
    assert out.getvalue() == SUMMARY + "\n"


def test_a_nameless_tensor_leaves_the_name_out() -> None:
    desc = TensorDesc.of(TensorSpec("", DType.UINT8, (2, 3)))
    assert desc.name is None
    assert repr(desc) == "TensorDesc(shape=(2, 3), dtype=UINT8, format=??, size=6, len=6)"


def test_a_tensor_without_dimensions() -> None:
    desc = TensorDesc("s", (), DataType.INT64)
    assert repr(desc) == 'TensorDesc(name="s", shape=(), dtype=INT64, format=, size=8, len=1)'


def test_strides_count_elements() -> None:
    assert [X.stride(i) for i in range(X.ndim)] == [784, 784, 28, 1]
    assert TensorDesc("t", (2, 3, 4, 5), DataType.FLOAT32).stride(0) == 60


def test_dimensions_and_axes() -> None:
    assert X.ndim == 4
    assert [X.dim(i) for i in range(4)] == [1, 1, 28, 28]
    assert [X.axis(i) for i in range(4)] == [Axis.BATCH, Axis.CHANNEL, Axis.HEIGHT, Axis.WIDTH]
    assert [Y.axis(i) for i in range(2)] == [Axis.UNKNOWN, Axis.UNKNOWN]


def test_axes_are_those_of_the_program() -> None:
    desc = TensorDesc.of(TensorSpec("x", DType.UINT8, (1, 28, 28, 3), axes="NHWC"))
    assert desc.format == "NHWC"
    assert desc.axis(3) is Axis.CHANNEL


def test_padding_counts_in_bytes_and_not_in_elements() -> None:
    desc = TensorDesc.of(
        TensorSpec("x", DType.INT8, (1, 1, 2, 4, 6, 32), None, "N??CHW", (1, 1, 2, 4, 6, 5))
    )
    assert (desc.length, desc.size) == (240, 1536)
    assert desc.format == "N??CHW"
    assert desc.stride(4) == 32


@pytest.mark.parametrize("method", ["dim", "axis", "stride"])
@pytest.mark.parametrize("index", [2, -1])
def test_a_dimension_out_of_range_is_an_index_error(method: str, index: int) -> None:
    with pytest.raises(IndexError, match=f"dimension {index} of a tensor with 2"):
        getattr(Y, method)(index)


@pytest.mark.parametrize("index", [1, -1])
def test_a_tensor_out_of_range_is_an_index_error(index: int) -> None:
    model = Model([X], [Y])
    with pytest.raises(IndexError) as caught:
        model.input(index)
    assert str(caught.value) == "list index out of input tensors"
    with pytest.raises(IndexError) as caught:
        model.output(index)
    assert str(caught.value) == "list index out of output tensors"


def test_model_members() -> None:
    model = Model([X, Y], [Y])
    assert (model.input_num, model.output_num) == (2, 1)
    assert model.input(1) is Y
    assert model.inputs() == [X, Y]
    assert model.outputs() == [Y]


@pytest.mark.parametrize(
    "value",
    [
        np.float32,
        np.dtype("float32"),
        "float32",
        "<f4",
        np.zeros((2, 2), np.float32),
        np.float32(1),
        DataType.FLOAT32,
    ],
)
def test_data_type_of_anything_that_names_one(value: object) -> None:
    assert DataType(value) is DataType.FLOAT32


@pytest.mark.parametrize("value", [np.complex128, np.zeros(3), None, "float8", object(), float])
def test_no_data_type_of_anything_else(value: object) -> None:
    with pytest.raises(ValueError, match=r"^unknown data type: "):
        DataType(value)


def test_every_type_of_a_program_is_known_by_the_same_name() -> None:
    assert {DataType(dtype.value).name for dtype in DType} == {dtype.name for dtype in DType}


def test_data_type_texts() -> None:
    assert repr(DataType.FLOAT32) == str(DataType.FLOAT32) == f"{DataType.FLOAT32}" == "FLOAT32"


def test_data_type_to_numpy() -> None:
    assert DataType.UINT8.numpy == np.dtype(np.uint8)
    assert X.numpy_dtype == np.dtype(np.float32)
    with pytest.raises(ValueError, match="no BFLOAT16"):
        _ = DataType("bfloat16").numpy


def test_numpy_dtype_of_a_data_type_is_deprecated() -> None:
    with pytest.warns(FutureWarning, match="numpy_dtype"):
        assert DataType.INT8.numpy_dtype is np.int8


def test_every_public_type_is_there() -> None:
    names = ["FLOAT16", "FLOAT32", "BFLOAT16", "INT8", "INT16", "INT32", "INT64", "UINT8"]
    assert {DataType[name].name for name in names} == set(names)
    assert [axis.value for axis in Axis] == ["W", "H", "C", "N", "?"]
