"""Which reservations stand beside each other."""

import pytest

from furiosa.broker.reservations.record import Asked, Reservation, decide, key_of
from furiosa.common.errors import BadArgument, DeviceBusy
from furiosa.common.names import DeviceFile
from furiosa.common.views import Container

POD = Container("containerd", "a" * 64, "6d1a2b3c-0f0e-4111-8222-333344445555")


def files(*names: str) -> tuple[DeviceFile, ...]:
    return tuple(map(DeviceFile.parse, names))


def asked(*names: str, manager: str = "m", name: str = "") -> Asked:
    return Asked(files(*names), manager, name, "")


def standing(
    *names: str, manager: str = "m", name: str = "", bound: str = "", id: str = "r"
) -> Reservation:
    container = POD if bound else None
    return Reservation(id, files(*names), manager, name, "", 0.0, bound, container)


def test_nothing_is_in_the_way_of_other_cores() -> None:
    there = (standing("npu0pe0"), standing("npu1", manager="other"))
    outcome = decide(asked("npu0pe1"), there, {"r": (7,)})
    assert (outcome.same, outcome.over) == (None, ())


@pytest.mark.parametrize("name", ["npu0", "npu0pe0", "npu0pe0-1"])
def test_another_manager_is_in_the_way_on_every_file_with_a_core_in_common(name: str) -> None:
    with pytest.raises(DeviceBusy, match="reserved by other") as caught:
        decide(asked(name), (standing("npu0pe0", manager="other"),), {})
    assert (caught.value.device, caught.value.holder_device) == (name, "npu0pe0")


def test_one_that_nobody_came_for_is_the_same_for_the_same_files() -> None:
    there = standing("npu0pe0", "npu1")
    assert decide(asked("npu1", "npu0pe0"), (there,), {}).same == there


def test_one_that_nobody_came_for_stays_beside_others_on_its_cores() -> None:
    outcome = decide(asked("npu0pe0"), (standing("npu0pe0", "npu1"),), {})
    assert (outcome.same, outcome.over) == (None, ())


def test_one_whose_pod_is_dead_is_over() -> None:
    there = standing("npu0pe0", bound=key_of(POD))
    outcome = decide(asked("npu0pe0"), (there,), {})
    assert (outcome.same, outcome.over) == (None, (there,))


@pytest.mark.parametrize("bound", ["", "pod"])
def test_one_of_which_a_process_lives_is_in_the_way(bound: str) -> None:
    with pytest.raises(DeviceBusy) as caught:
        decide(asked("npu0pe0"), (standing("npu0pe0", bound=bound),), {"r": (7, 8)})
    assert caught.value.holder_pid == 7


def test_a_name_is_one_thing_dead_or_alive() -> None:
    there = standing("npu0pe0", name="claim", bound="pod")
    assert decide(asked("npu0pe0", name="claim"), (there,), {"r": (7,)}).same == there


def test_a_name_cannot_become_other_files() -> None:
    with pytest.raises(BadArgument, match="npu0pe0, which claim is"):
        decide(asked("npu0pe1", name="claim"), (standing("npu0pe0", name="claim"),), {})


@pytest.mark.parametrize(("mine", "theirs"), [("a", "b"), ("a", ""), ("", "b")])
def test_names_of_one_manager_exclude_each_other_dead_or_alive(mine: str, theirs: str) -> None:
    with pytest.raises(DeviceBusy):
        decide(asked("npu0pe0", name=mine), (standing("npu0pe0-1", name=theirs, bound="p"),), {})


@pytest.mark.parametrize(
    ("request_", "match"),
    [
        (asked(), "device_files is empty"),
        (asked("npu0", "npu0pe1"), "no core in common"),
        (asked("npu0", manager=""), "manager is empty"),
        (asked("npu0", manager="m" * 254), "at most 253"),
        (asked("npu0", name="a\nb"), "can be shown"),
    ],
)
def test_what_cannot_be_asked(request_: Asked, match: str) -> None:
    with pytest.raises(BadArgument, match=match):
        request_.check()


def test_a_pod_is_one_whatever_container_of_it_comes() -> None:
    other = Container("containerd", "b" * 64, POD.pod_uid)
    assert key_of(POD) == key_of(other) == POD.pod_uid
    assert key_of(Container("podman", "c" * 64)) == "c" * 64
    assert key_of(None) != ""
