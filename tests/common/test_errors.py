import pickle
from dataclasses import fields

import pytest

from furiosa.common import errors
from furiosa.common.errors import DeviceBusy, FuriosaError, InternalError
from furiosa.common.status import STATUS, Failed, Status, from_failed, reason_of, to_failed


def leaves(cls: type[FuriosaError]) -> list[type[FuriosaError]]:
    below = cls.__subclasses__()
    return [leaf for sub in below for leaf in leaves(sub)] if below else [cls]


LEAVES = [leaf for leaf in leaves(FuriosaError) if leaf.__module__ == errors.__name__]


def an_error(cls: type[FuriosaError]) -> FuriosaError:
    values = [7 if f.type is int else f"some {f.name}" for f in fields(cls)]  # type: ignore[arg-type]
    return cls(*values)


@pytest.mark.parametrize("cls", LEAVES)
def test_every_error_survives_the_wire(cls: type[FuriosaError]) -> None:
    error = an_error(cls)
    back = from_failed(to_failed(error))
    assert type(back) is cls
    assert str(back) == str(error)
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


@pytest.mark.parametrize("cls", LEAVES)
def test_every_error_has_a_status_and_a_place_in_the_drawing(cls: type[FuriosaError]) -> None:
    assert any(ancestor in STATUS for ancestor in cls.__mro__)
    assert f"── {cls.__name__} " in f"{errors.__doc__} ".replace("\n", " \n")


def test_reasons_are_stable_names() -> None:
    assert reason_of(DeviceBusy) == "DEVICE_BUSY"
    assert to_failed(DeviceBusy("npu0")).code == Status.RESOURCE_EXHAUSTED


def test_busy_names_the_holder() -> None:
    text = str(DeviceBusy("warboy(2)*1", "npu0pe0", 4242, "python app.py"))
    assert text == (
        "Device warboy(2)*1 found but still in use: npu0pe0 is held by pid 4242 (python app.py)"
    )


@pytest.mark.parametrize(
    "failed",
    [
        Failed(8, "text", "SOMETHING_NEW", {}),
        Failed(8, "text", "DEVICE_BUSY", {}),
        Failed(8, "text", "DEVICE_BUSY", {"device": "a", "holder_pid": "x"}),
    ],
)
def test_a_failure_of_a_newer_peer_is_an_internal_error_with_its_text(failed: Failed) -> None:
    error = from_failed(failed)
    assert isinstance(error, InternalError)
    assert "text" in str(error)
