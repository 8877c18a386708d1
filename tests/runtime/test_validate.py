"""What `run` and `run_with` accept, and the words with which they refuse."""

from itertools import repeat
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from furiosa.common.tensor import DType, TensorSpec
from furiosa.runtime._core.errors import TensorNameNotFound
from furiosa.runtime._core.validate import Inputs, Outputs

IMAGE = TensorSpec("image", DType.FLOAT32, (1, 2, 3))
LEVEL = TensorSpec("level", DType.FLOAT32, ())
COUNT = TensorSpec("count", DType.UINT8, ())

one = Inputs([IMAGE])
two = Inputs([IMAGE, COUNT])
image = np.arange(6, dtype=np.float32).reshape(1, 2, 3)
count = np.array(7, np.uint8)


class Wrapped:
    """Anything with the array interface."""

    def __init__(self, array: npt.NDArray[Any]) -> None:
        self.__array_interface__ = array.__array_interface__
        self._array = array


def test_what_fits_is_passed_on_as_it_is() -> None:
    first, second = two.ordered([image, count])
    assert first is image
    assert second is count


@pytest.mark.parametrize("given", [image, [image], (image,), iter([image]), Wrapped(image)])
def test_a_single_input_may_come_bare_or_in_any_iterable(given: Any) -> None:
    (array,) = one.ordered(given)
    assert np.array_equal(array, image)


def test_other_layouts_are_fine() -> None:
    turned = np.asfortranarray(image)
    spread = np.repeat(image, 2, axis=2)[:, :, ::2]
    assert not spread.flags.c_contiguous
    assert one.ordered(turned)[0] is turned
    assert one.ordered(spread)[0] is spread


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ([image], "2 tensors are expected, but 1 tensors are given"),
        ([], "2 tensors are expected, but 0 tensors are given"),
        (image, "2 tensors are expected, but 1 tensors are given"),
        ([image] * 3, "2 tensors are expected, but 3 tensors are given"),
        (repeat(image), "2 tensors are expected, but 3 tensors are given"),
    ],
)
def test_a_wrong_number_of_tensors_is_a_value_error(given: Any, text: str) -> None:
    with pytest.raises(ValueError, match="tensors") as caught:
        two.ordered(given)
    assert str(caught.value) == text


def test_a_wrong_shape_is_a_value_error_that_names_the_input() -> None:
    with pytest.raises(ValueError, match="input 0") as caught:
        one.ordered(image[0])
    assert str(caught.value) == (
        "input 0 ('image'): expected (1, 2, 3) (float32) but got (2, 3) (float32)"
    )


@pytest.mark.parametrize(
    ("array", "found"),
    [
        (image.astype(np.float64), "float64"),
        (image.astype(">f4"), ">f4"),
        (np.full((1, 2, 3), None), "object"),
    ],
)
def test_a_wrong_dtype_is_a_type_error_and_never_cast(array: npt.NDArray[Any], found: str) -> None:
    with pytest.raises(TypeError) as caught:
        one.ordered(array)
    assert str(caught.value) == (
        f"input 0 ('image'): expected (1, 2, 3) (float32) but got (1, 2, 3) ({found})"
    )


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (None, "inputs: expected a tensor or an iterable of them, found None"),
        ("image", "inputs: expected a tensor or an iterable of them, found str"),
        (b"image", "inputs: expected a tensor or an iterable of them, found bytes"),
        (
            {"image": image},
            "inputs: expected tensors in program order, found a mapping; see run_with",
        ),
        ([[1.0, 2.0]], "input 0 ('image'): expected an array, found list"),
        ([None], "input 0 ('image'): expected an array, found None"),
    ],
)
def test_what_is_no_tensor_is_a_type_error(given: Any, text: str) -> None:
    with pytest.raises(TypeError) as caught:
        one.ordered(given)
    assert str(caught.value) == text


@pytest.mark.parametrize("value", [3, 3.0, np.float32(3), np.array(3, np.float32)])
def test_a_number_will_do_without_dimensions(value: Any) -> None:
    (array,) = Inputs([LEVEL]).ordered(value)
    assert array.dtype == np.float32
    assert array.shape == ()
    assert array == 3


def test_a_number_is_no_tensor_with_dimensions() -> None:
    with pytest.raises(
        TypeError, match=r"expected \(1, 2, 3\) \(float32\) but got \(\) \(float64\)"
    ):
        one.ordered(3.0)
    with pytest.raises(
        ValueError, match=r"expected \(1, 2, 3\) \(float32\) but got \(\) \(float32\)"
    ):
        one.ordered(np.float32(3))


def test_a_number_must_fit_its_dtype() -> None:
    only = Inputs([COUNT])
    with pytest.raises(ValueError, match=r"input 0 \('count'\): 256 does not fit into uint8"):
        only.ordered(256)
    with pytest.raises(TypeError, match=r"expected \(\) \(uint8\) but got \(\) \(float64\)"):
        only.ordered(1.5)


def test_by_name_the_order_does_not_matter() -> None:
    first, second = two.named({"count": count, "image": image})
    assert first is image
    assert second is count


def test_by_name_every_input_is_needed() -> None:
    with pytest.raises(ValueError, match=r"no tensor is given for input 'count'$"):
        two.named({"image": image})


def test_an_unknown_name_is_a_value_error() -> None:
    with pytest.raises(ValueError, match=r"unknown input 'img'; the model has 'image', 'count'$"):
        two.named({"img": image, "count": count})


def test_an_unknown_name_has_a_class_of_its_own(outputs: Outputs) -> None:
    with pytest.raises(TensorNameNotFound, match=r"^unknown input 'img'"):
        two.named({"img": image, "count": count})
    with pytest.raises(TensorNameNotFound, match=r"^unknown output 'img'"):
        outputs.chosen(["img"])


def test_by_name_needs_a_mapping() -> None:
    with pytest.raises(TypeError, match=r"expected a dict of tensor name to tensor, found list$"):
        two.named([image, count])  # type: ignore[arg-type]  # the claim


@pytest.fixture
def outputs() -> Outputs:
    return Outputs([IMAGE, COUNT])


def test_outputs_come_in_the_asked_order(outputs: Outputs) -> None:
    assert outputs.all == (0, 1)
    assert outputs.chosen(["count", "image"]) == (1, 0)
    assert outputs.chosen(["count"]) == (1,)


@pytest.mark.parametrize(
    ("names", "text"),
    [
        (None, "output_names: expected a list of str, found None"),
        ("image", "output_names: expected a list of str, found str"),
        ([1], "output_names: expected a list of str, found int in it"),
    ],
)
def test_output_names_must_be_a_list_of_str(outputs: Outputs, names: Any, text: str) -> None:
    with pytest.raises(TypeError) as caught:
        outputs.chosen(names)
    assert str(caught.value) == text


def test_unknown_or_no_outputs_are_a_value_error(outputs: Outputs) -> None:
    with pytest.raises(ValueError, match=r"unknown output 'x'; the model has 'image', 'count'$"):
        outputs.chosen(["image", "x"])
    with pytest.raises(ValueError, match=r"at least one output must be named$"):
        outputs.chosen([])
