"""Reservations over an arbiter: made, bound, ended, and written down first."""

import asyncio
import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from furiosa.broker.devices import Holder
from furiosa.broker.lease import Claim
from furiosa.broker.reservations.grant_files import GrantFiles
from furiosa.broker.reservations.keeper import Keeper
from furiosa.broker.reservations.record import Asked
from furiosa.common.errors import (
    DeviceBusy,
    DeviceUnavailable,
    NotRecorded,
    UnknownDevice,
)
from furiosa.common.names import DeviceFile
from furiosa.common.reservations import ReservationState, ReservationView
from furiosa.common.selector import DeviceSpec
from furiosa.common.views import Container, LeaseState
from support.arbiters import Bench, two_core_card
from support.owners import FakeSession
from support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

POD = Container("containerd", "a" * 64, "6d1a2b3c-0f0e-4111-8222-333344445555")
OTHER = Container("containerd", "b" * 64, "00000000-0f0e-4111-8222-333344445555")


class Desk:
    """A keeper whose processes are what the test says: `living`, pids by reservation."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.bench = Bench(folder, 2, stops_at_once=True)
        self.living: dict[str, tuple[int, ...]] = {}
        self.acts: list[str] = []
        self.grants = GrantFiles(folder / "grants")
        self.start()

    def start(self) -> None:
        self.grants.holders = lambda: {  # type: ignore[method-assign]  # instead of all of /proc
            f"reservations/{name}": pids for name, pids in self.living.items()
        }
        self.keeper = Keeper(
            self.folder / "reservations.json",
            self.grants,
            self.bench.arbiter,
            lambda: tuple(f for npu in range(2) for f in two_core_card(npu).files),
            lambda act, **_: self.acts.append(act),
        )

    async def reserve(self, *names: str, manager: str = "m", name: str = "") -> ReservationView:
        files = tuple(map(DeviceFile.parse, names))
        return await self.keeper.reserve(Asked(files, manager, name, ""))

    async def lease(self, spec: str, pool: str = "") -> str:
        who = self.bench.connect(FakeSession())
        answer = self.bench.arbiter.request(
            who.session, DeviceSpec.parse(spec), 0.0, Claim("t", pool=pool)
        )
        return (await answer).lease.id

    def saved(self) -> list[str]:
        data = json.loads((self.folder / "reservations.json").read_text())
        return [each["id"] for each in data["reservations"]]


@pytest.fixture
async def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


async def test_reserved_cores_are_nobodys_until_somebody_comes_for_them(desk: Desk) -> None:
    view = await desk.reserve("npu0pe0")
    assert (view.state, view.pids) == (ReservationState.OPEN, ())
    assert Path(view.grant).read_text() == "npu0pe0\n"
    assert desk.saved() == [view.id]
    with pytest.raises(DeviceBusy, match="npu0pe0 is reserved by m"):
        await desk.lease("npu0")
    pool = desk.keeper.bind(view.id, POD)
    assert pool == POD.pod_uid
    lease = await desk.lease("npu0pe0", pool)
    assert desk.bench.arbiter.book.pool_of(lease) == pool
    (bound,) = await desk.keeper.views()
    assert (bound.state, bound.container) == (ReservationState.BOUND, POD)
    assert desk.acts == ["reservation.made", "reservation.bound"]


@pytest.mark.parametrize("wanted", ["npu0pe0", "npu0", "npu0pe0-1"])
async def test_what_is_leased_cannot_be_reserved(desk: Desk, wanted: str) -> None:
    await desk.lease("npu0pe0")
    with pytest.raises(DeviceBusy) as caught:
        await desk.reserve("npu1", wanted)
    assert (caught.value.holder_device, caught.value.holder_pid) == ("npu0pe0", 4242)
    assert await desk.keeper.views() == ()
    assert await desk.lease("npu1"), "nothing of it is kept"


async def test_what_a_stranger_has_open_cannot_be_reserved(desk: Desk) -> None:
    holder = Holder(77, 1, "a stranger", DeviceFile.parse("npu0pe1"))
    desk.bench.arbiter.set_foreign({DeviceFile.parse("npu0pe1"): (holder,)})
    with pytest.raises(DeviceBusy, match="npu0pe1 is held by pid 77"):
        await desk.reserve("npu0pe0-1")
    assert await desk.reserve("npu0pe0")


async def test_a_closed_card_and_one_that_is_not_there_cannot_be_reserved(desk: Desk) -> None:
    desk.bench.arbiter.set_closed(0, "cordon", "broken fan", None)
    with pytest.raises(DeviceUnavailable, match="npu0: broken fan"):
        await desk.reserve("npu0pe0")
    with pytest.raises(UnknownDevice, match="npu7"):
        await desk.reserve("npu7")


async def test_a_dead_pods_cores_go_to_the_next_and_its_grant_opens_nothing(desk: Desk) -> None:
    first = await desk.reserve("npu0pe0-1")
    desk.keeper.bind(first.id, POD)
    second = await desk.reserve("npu0pe0")
    assert [view.id for view in await desk.keeper.views()] == [second.id] == desk.saved()
    assert not Path(first.grant).exists()
    assert desk.keeper.bind(first.id, POD) is None
    assert desk.keeper.bind(second.id, OTHER) == OTHER.pod_uid
    assert await desk.lease("npu0pe1"), "what is not reserved any more is everybody's"


async def test_a_lease_that_outlives_its_pod_ends_before_its_core_is_anothers(desk: Desk) -> None:
    first = await desk.reserve("npu0pe0")
    pool = desk.keeper.bind(first.id, POD)
    assert pool is not None
    lease = await desk.lease("npu0pe0", pool)
    desk.bench.stops_at_once = False
    task = asyncio.ensure_future(desk.reserve("npu0pe0"))
    await until(lambda: lease in desk.bench.stopping)
    assert not task.done(), "its worker still runs"
    desk.bench.workers_stopped(lease)
    assert (await task).id != first.id


async def test_a_living_process_keeps_its_cores(desk: Desk) -> None:
    first = await desk.reserve("npu0pe0")
    desk.living[first.id] = (31,)
    with pytest.raises(DeviceBusy) as caught:
        await desk.reserve("npu0")
    assert caught.value.holder_pid == 31
    with pytest.raises(DeviceBusy):
        await desk.keeper.cancel(first.id)
    desk.living.clear()
    await desk.keeper.cancel(first.id)
    await desk.keeper.cancel(first.id)
    assert (await desk.keeper.views(), desk.saved()) == ((), [])
    assert await desk.lease("npu0")


async def test_init_and_app_containers_of_a_pod_share_what_both_were_allocated(desk: Desk) -> None:
    init, app = await desk.reserve("npu0pe0", "npu0pe1"), await desk.reserve("npu0pe0")
    again = await desk.reserve("npu0pe0")
    assert init.id != app.id == again.id
    assert desk.keeper.bind(init.id, POD) == POD.pod_uid == desk.keeper.bind(app.id, POD)
    assert await desk.lease("npu0pe0-1", POD.pod_uid)


async def test_another_pod_gets_nothing_of_cores_that_are_bound(desk: Desk) -> None:
    wide, narrow = await desk.reserve("npu0pe0-1"), await desk.reserve("npu0pe0")
    assert desk.keeper.bind(wide.id, POD) is not None
    assert desk.keeper.bind(narrow.id, OTHER) is None


async def test_a_shared_claim_is_one_pods_while_that_uses_it(desk: Desk) -> None:
    claim = await desk.reserve("npu0pe0", name="claim")
    assert desk.keeper.bind(claim.id, POD) == POD.pod_uid
    lease = await desk.lease("npu0pe0", POD.pod_uid)
    assert desk.keeper.bind(claim.id, OTHER) is None
    desk.bench.arbiter.revoke(lease, "over", 0.0)
    assert desk.keeper.bind(claim.id, OTHER) == OTHER.pod_uid


@pytest.mark.parametrize("bound", [False, True])
async def test_all_is_as_it_was_after_a_restart(desk: Desk, bound: bool) -> None:
    view = await desk.reserve("npu0pe0")
    if bound:
        desk.keeper.bind(view.id, POD)
    before = await desk.keeper.views()
    (desk.grants.folder / "reservations" / "left over").touch()
    (desk.folder / "again").mkdir()
    desk.bench = Bench(desk.folder / "again", 2, stops_at_once=True)
    desk.start()
    assert await desk.keeper.views() == before
    assert [p.name for p in (desk.grants.folder / "reservations").iterdir()] == [view.id]
    with pytest.raises(DeviceBusy):
        await desk.lease("npu0pe0")
    assert desk.keeper.bind(view.id, POD) == POD.pod_uid
    assert await desk.lease("npu0pe0", POD.pod_uid)


async def test_a_file_that_is_not_whole_is_not_taken_for_no_reservations(desk: Desk) -> None:
    await desk.reserve("npu0pe0")
    path = desk.folder / "reservations.json"
    path.write_bytes(path.read_bytes()[:-2])
    with pytest.raises(ValueError, match="truncated"):
        desk.start()


async def test_what_cannot_be_written_down_has_not_happened(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = await desk.reserve("npu0pe0")
    desk.keeper.bind(first.id, POD)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("furiosa.broker.reservations.saved.save", full)
    acts: tuple[Callable[[], Awaitable[object]], ...] = (
        lambda: desk.reserve("npu0pe0"),
        lambda: desk.reserve("npu1"),
        lambda: desk.keeper.cancel(first.id),
    )
    for act in acts:
        with pytest.raises(NotRecorded, match="No space left"):
            await act()
    with pytest.raises(NotRecorded):
        desk.keeper.bind(first.id, OTHER)
    (still,) = await desk.keeper.views()
    assert (still.id, still.container) == (first.id, POD)
    assert desk.keeper.bind(first.id, POD) == POD.pod_uid
    lease = await desk.lease("npu0pe0", POD.pod_uid)
    assert desk.bench.arbiter.book.view(lease).state is LeaseState.GRANTED
    assert await desk.lease("npu1")
