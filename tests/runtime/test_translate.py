import pytest

from furiosa.common import errors as broker
from furiosa.common.names import DeviceFile
from furiosa.queuepair import CompletionStatus
from furiosa.runtime import FuriosaRuntimeError
from furiosa.runtime._core.errors import DeviceBusy, IncompatibleModel, SessionTerminated
from furiosa.runtime._core.translate import failed_run, fresh, translate, translated

BUSY = broker.DeviceBusy("warboy(2)*1", "npu0pe0", 4711, "python other.py")


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (BUSY, DeviceBusy),
        (broker.LeaseEnded("l", "revoked"), SessionTerminated),
        (broker.UnknownDevice("npu:9:0"), FuriosaRuntimeError),
        (broker.InvalidProgram("magic", "it is empty"), IncompatibleModel),
        (broker.UnsupportedProgram("target", "warboy", "warboy-2pe"), IncompatibleModel),
        (broker.BrokerUnavailable("unix:/b", "no such file"), FuriosaRuntimeError),
    ],
)
def test_the_class_is_ours_and_text_and_cause_are_theirs(
    error: broker.FuriosaError, expected: type[FuriosaRuntimeError]
) -> None:
    with pytest.raises(FuriosaRuntimeError) as caught, translated():
        raise error
    assert type(caught.value) is expected
    assert str(caught.value) == str(error)
    assert caught.value.__cause__ is error


def test_what_is_not_of_the_broker_passes() -> None:
    with pytest.raises(ZeroDivisionError), translated():
        raise ZeroDivisionError


@pytest.mark.parametrize("status", [s for s in CompletionStatus if s is not CompletionStatus.OK])
def test_every_failed_run_names_its_device(status: CompletionStatus) -> None:
    assert str(failed_run(status, DeviceFile.parse("npu0pe1"))).startswith("npu0pe1: ")


def test_a_fresh_error_is_another_object_of_the_same_kind() -> None:
    error = translate(BUSY)
    again = fresh(error)
    assert again is not error
    assert (type(again), str(again), again.__cause__) == (DeviceBusy, str(error), BUSY)
