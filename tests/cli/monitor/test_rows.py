"""What the tables say."""

from furiosa.cli.monitor.grid import Meter, Spark, Text, Tone
from furiosa.cli.monitor.history import History
from furiosa.cli.monitor.rows import CARDS, LEASES, WAITERS, Row, cards, leases, waiters
from furiosa.common.names import DeviceFile
from furiosa.common.views import Availability, Container, LeaseState, OwnerView, ProcessView
from support.shown_devices import a_lease
from support.shown_samples import NOW, a_card, a_sample, a_use, a_waiter, two_cards

NAMES = {1000: "ada", 1001: "bob"}


def name_of(uid: int) -> str:
    return NAMES.get(uid, str(uid))


def texts(row: Row) -> list[str]:
    return [cell.text if isinstance(cell, Text) else "" for cell in row.cells]


def test_a_card_shows_its_use_its_sensors_and_their_past() -> None:
    sample, history = two_cards(), History()
    history.record(sample)
    first, second = cards(sample, history)
    assert texts(first) == ["npu0", "1/2 cores held", "12%", "", "", "54°C", "", "0.99 W"]
    assert first.cells[3] == Meter(0.125, Tone.MARK)
    assert first.cells[4] == Spark((0.125,), 0.0, 1.0, Tone.MARK)
    assert first.cells[6] == Spark((54.0,), 20.0, 100.0, Tone.GOOD)
    assert texts(second)[:3] == ["npu1", "2/2 cores held", "100%"]


def test_a_core_says_through_which_file_it_is_held_when_that_is_another() -> None:
    first, second = cards(two_cards(), History())
    shown = [texts(core)[:3] for core in (*first.below, *second.below)]
    assert shown == [
        [" pe0", "occupied", "25%"],
        [" pe1", "available", "0%"],
        [" pe0", "held by npu1pe0-1", "100%"],
        [" pe1", "held by npu1pe0-1", "100%"],
    ]


def test_a_card_that_grants_nothing_says_why() -> None:
    hot = a_card(0, availability=Availability.UNAVAILABLE, reason="over temperature")
    cordoned = a_card(1, availability=Availability.CORDONED, reason="new firmware")
    first, second, free = cards(a_sample(hot, cordoned, a_card(2)), History())
    assert first.cells[1] == Text("over temperature", Tone.BAD)
    assert second.cells[1] == Text("cordoned", Tone.WARM)
    assert "npu1: cordoned (new firmware)" in second.detail
    assert free.cells[1] == Text("free")


def test_a_card_may_have_no_sensors() -> None:
    (row,) = cards(
        a_sample(a_card(0, temperature_millicelsius=None, power_microwatts=None)), History()
    )
    assert (texts(row)[5], texts(row)[7]) == ("N/A", "N/A")


def test_heat_has_a_colour() -> None:
    sample = a_sample(
        *(a_card(n, temperature_millicelsius=t) for n, t in enumerate((69_000, 70_000, 85_000)))
    )
    assert [row.cells[5].tone for row in cards(sample, History())] == [
        Tone.GOOD,
        Tone.WARM,
        Tone.BAD,
    ]


def test_a_lease_shows_its_owner_its_age_and_its_end() -> None:
    first, second = leases(two_cards(), name_of)
    assert dict(zip((column.title for column in LEASES), texts(first), strict=True)) == {
        "LEASE": "aaaa",
        "DEVICE": "npu1pe0-1",
        "STATE": "granted",
        "USER": "ada",
        "TENANT": "",
        "PRIO": "0",
        "PID": "4242",
        "USE": "100%",
        "HELD": "1m40s",
        "ENDS": "-",
        "WHERE": "",
        "COMMAND": "python3 app.py",
    }
    assert texts(second)[9] == "1m30s"


def test_an_owner_in_a_pod_or_a_container_or_elsewhere_says_where() -> None:
    owners = (
        OwnerView(7, 1000, 1000, 1, "a", Container("containerd", "f" * 64, "pod-uid-1")),
        OwnerView(7, 1000, 1000, 1, "b", Container("docker", "f" * 64)),
        OwnerView(0, 0, 0, 0, "c", None, "10.0.0.7:55", "CN=ada"),
    )
    sample = a_sample(leases=tuple(a_lease(owner=owner) for owner in owners))
    rows = leases(sample, name_of)
    assert [texts(row)[10] for row in rows] == [
        "pod pod-uid-1",
        "docker ffffffffffff",
        "10.0.0.7:55",
    ]
    assert texts(rows[2])[3] == "CN=ada"
    assert texts(rows[2])[6] == "-"
    assert "f" * 64 in rows[1].detail
    assert rows[2].detail == "5f3a: npu0pe0-1, granted, CN=ada at 10.0.0.7:55: c"


def test_a_lease_that_is_taken_back_says_so() -> None:
    lease = a_lease(state=LeaseState.RECALLED, cause="revoked: new firmware", ends_at=NOW + 8)
    (row,) = leases(a_sample(leases=(lease,)), name_of)
    assert row.cells[2] == Text("recalled", Tone.WARM)
    assert "recalled (revoked: new firmware)" in row.detail


def test_a_tenant_is_named_where_it_is_not_just_the_user() -> None:
    sample = a_sample(
        leases=(a_lease(tenant="vision"), a_lease(tenant="uid:1000")),
        waiters=(a_waiter(tenant="vision"),),
    )
    assert [texts(row)[4] for row in leases(sample, name_of)] == ["vision", ""]
    assert texts(waiters(sample, name_of)[0])[3] == "vision"


def test_a_process_without_a_lease_is_shown_behind_them() -> None:
    foreign = ProcessView(DeviceFile.parse("npu0"), 77, "legacy", "")
    known = ProcessView(DeviceFile.parse("npu1"), 78, "served", "5f3a")
    rows = leases(a_sample(leases=(a_lease(),), processes=(foreign, known)), name_of)
    assert [texts(row)[1:3] for row in rows] == [
        ["npu0pe0-1", "granted"],
        ["npu0", "without a lease"],
    ]
    assert rows[1].detail == "pid 77 holds npu0 without a lease: legacy"


def test_a_waiter_says_what_it_wants_and_waits_for() -> None:
    (row,) = waiters(a_sample(waiters=(a_waiter(deadline=NOW + 30),)), name_of)
    assert dict(zip((column.title for column in WAITERS), texts(row), strict=True)) == {
        "POS": "1",
        "WANTS": "warboy(2)*1",
        "USER": "bob",
        "TENANT": "",
        "PRIO": "0",
        "PID": "7",
        "WAITS": "1m05s",
        "GIVES UP": "30s",
        "WAITS FOR": "npu0pe0 is held by lease 5f3a",
        "COMMAND": "train --epochs 3",
    }


def test_every_row_has_a_cell_and_a_value_for_each_column() -> None:
    sample = two_cards()
    foreign = (ProcessView(DeviceFile.parse("npu0"), 77, "legacy", ""),)
    sample = a_sample(
        *sample.devices,
        leases=sample.overview.leases,
        waiters=sample.overview.waiters,
        uses=(a_use("npu0pe0", 0.25),),
        processes=foreign,
    )
    for rows, columns in (
        (cards(sample, History()), CARDS),
        (leases(sample, name_of), LEASES),
        (waiters(sample, name_of), WAITERS),
    ):
        for row in rows:
            assert len(row.cells) == len(row.values) == len(columns)
            assert all(len(below.cells) == len(columns) for below in row.below)
        for column in range(len(columns)):
            sorted(row.values[column] for row in rows)  # they can be compared  # type: ignore[type-var]
