"""`furiosactl leases`: tables, documents and the watch."""

import json

import pytest

from furiosa.cli.commands import leases
from furiosa.cli.exitcodes import ExitCode
from furiosa.cli.furiosactl import main
from furiosa.cli.render.table import draw
from furiosa.cli.render.times import moment, span
from furiosa.cli.render.yaml_ import yaml_text
from furiosa.common.errors import BrokerUnavailable
from furiosa.common.names import DeviceFile
from furiosa.common.views import (
    Container,
    LeaseOverview,
    LeaseState,
    LeaseView,
    Origin,
    OwnerView,
    WaiterView,
)
from support.shown_devices import ShownBroker, a_lease

Output = pytest.CaptureFixture[str]

NOW = 1_000_000.0
POD = Container("containerd", "0123456789abcdef", "7d1c-pod")
DOCKER = Container("docker", "0123456789abcdef")


def owner(pid: int = 4242, **changes: object) -> OwnerView:
    return OwnerView(pid, 1000, 1000, 77, "python3 app.py", **changes)  # type: ignore[arg-type]  # by name


def a_waiter(**changes: object) -> WaiterView:
    fields: dict[str, object] = {
        "position": 1,
        "device_spec": "warboy(2)*1",
        "tenant": "uid:1001",
        "priority": 0,
        "owner": owner(7),
        "since": NOW - 65,
        "deadline": None,
        "reason": "npu0pe0-1 is held by pid 4242",
        "session": 3,
    }
    return WaiterView(**{**fields, **changes})  # type: ignore[arg-type]  # by name


def table(*shown: LeaseView) -> str:
    return draw(leases.report(LeaseOverview(shown, (), 1), waiting=False, now=NOW).table)


def test_each_lease_has_a_row() -> None:
    first = a_lease(granted_at=NOW - 7)
    both = tuple(map(DeviceFile.parse, ("npu1pe0", "npu2pe1")))
    second = a_lease(
        "77b1",
        device_files=both,
        state=LeaseState.RECALLED,
        cause="maintenance",
        tenant="",
        priority=10,
        owner=owner(pid=0, remote="10.0.0.7:4711", subject="CN=build"),
        granted_at=NOW - 3 * 86_400,
        ends_at=NOW + 10,
    )
    assert (
        table(first, second)
        == """\
+-------+------------------+------------------------+----------+------+------+--------------------------------+-------+--------+
| LEASE | DEVICE           | STATE                  | TENANT   | PRIO | PID  | COMMAND/POD                    |  HELD | ENDS   |
+-------+------------------+------------------------+----------+------+------+--------------------------------+-------+--------+
| 5f3a  | npu0pe0-1        | granted                | uid:1000 |    0 | 4242 | python3 app.py                 |    7s | -      |
+-------+------------------+------------------------+----------+------+------+--------------------------------+-------+--------+
| 77b1  | npu1pe0, npu2pe1 | recalled (maintenance) | -        |   10 | -    | python3 app.py (10.0.0.7:4711) | 3d00h | in 10s |
+-------+------------------+------------------------+----------+------+------+--------------------------------+-------+--------+
"""  # noqa: E501 - the table is this wide
    )


@pytest.mark.parametrize(
    ("container", "shown"),
    [(POD, "python3 app.py (pod 7d1c-pod) "), (DOCKER, "python3 app.py (docker 0123456789ab) ")],
)
def test_the_command_says_where_it_runs(container: Container, shown: str) -> None:
    assert f"| {shown}|" in table(a_lease(owner=owner(container=container)))


def test_each_request_that_waits_has_a_row() -> None:
    waiters = (a_waiter(), a_waiter(position=2, deadline=NOW + 1.2, reason="", priority=-1))
    report = leases.report(LeaseOverview((), waiters, 1), waiting=True, now=NOW)
    assert (
        draw(report.table)
        == """\
+-----+-------------+----------+------+-----+----------------+-------+----------+-------------------------------+
| POS | DEVICE      | TENANT   | PRIO | PID | COMMAND/POD    | WAITS | GIVES UP | REASON                        |
+-----+-------------+----------+------+-----+----------------+-------+----------+-------------------------------+
|   1 | warboy(2)*1 | uid:1001 |    0 | 7   | python3 app.py | 1m05s | -        | npu0pe0-1 is held by pid 4242 |
+-----+-------------+----------+------+-----+----------------+-------+----------+-------------------------------+
|   2 | warboy(2)*1 | uid:1001 |   -1 | 7   | python3 app.py | 1m05s | in 1s    | -                             |
+-----+-------------+----------+------+-----+----------------+-------+----------+-------------------------------+
"""  # noqa: E501 - the table is this wide
    )


def test_leases_for_programs() -> None:
    shown = a_lease(
        owner=owner(container=POD), state=LeaseState.EXPIRING, cause="expired", ends_at=NOW + 1
    )
    document = leases.report(LeaseOverview((shown,), (), 1), waiting=False, now=NOW).document
    assert list(document) == [
        {
            "lease": "5f3a",
            "devices": ["npu0pe0-1"],
            "state": "expiring",
            "cause": "expired",
            "tenant": "uid:1000",
            "priority": 0,
            "pid": 4242,
            "uid": 1000,
            "cmd": "python3 app.py",
            "container": {
                "runtime": "containerd",
                "id": "0123456789abcdef",
                "pod_uid": "7d1c-pod",
            },
            "remote": "",
            "subject": "",
            "granted_at": "1970-01-12T13:46:40Z",
            "ends_at": "1970-01-12T13:46:41Z",
        }
    ]


def test_what_is_not_there_is_null() -> None:
    report = leases.report(LeaseOverview((), (a_waiter(),), 1), waiting=True, now=NOW)
    (document,) = report.document
    assert (document["deadline"], document["container"]) == (None, None)
    assert document["since"] == "1970-01-12T13:45:35Z"
    assert "  deadline: null\n" in yaml_text(report.document)


def test_a_table_of_leases_says_that_others_wait(capsys: Output) -> None:
    broker = ShownBroker(states=(LeaseOverview((a_lease(),), (a_waiter(),), 1),))
    assert main(["leases"], connect=broker.connect) is ExitCode.OK
    out, err = capsys.readouterr()
    assert "| 5f3a " in out
    assert err == "furiosactl: 1 request waits, see `furiosactl leases --waiting`\n"
    main(["leases", "--waiting"], connect=broker.connect)
    out, err = capsys.readouterr()
    assert "| warboy(2)*1 " in out
    assert err == ""
    main(["leases", "--format", "json"], connect=broker.connect)
    out, err = capsys.readouterr()
    assert [lease["lease"] for lease in json.loads(out)] == ["5f3a"]
    assert err == ""
    assert broker.closed == 3


# --watch

STATES = (
    LeaseOverview((), (), 1),
    LeaseOverview((), (a_waiter(),), 2),
    LeaseOverview((a_lease(),), (), 3),
)


def test_watch_prints_every_change_of_what_is_shown(capsys: Output) -> None:
    broker = ShownBroker(states=STATES, origin=Origin.EMULATED)
    assert main(["leases", "--watch"], connect=broker.connect) is ExitCode.OK
    out, err = capsys.readouterr()
    empty, granted = out.split("\n\n")
    assert "5f3a" not in empty
    assert "| 5f3a " in granted
    assert err == "furiosactl: these cards are emulated\n"
    main(["leases", "--watch", "--waiting", "--format", "json"], connect=broker.connect)
    out, err = capsys.readouterr()
    assert [len(json.loads(line)) for line in out.splitlines()] == [0, 1, 0]
    assert err == ""
    main(["leases", "--watch", "--format", "yaml"], connect=broker.connect)
    assert capsys.readouterr().out.startswith("---\n[]\n---\n- lease: 5f3a\n")
    assert broker.closed == 3


def test_ctrl_c_ends_a_watch_without_a_word(capsys: Output) -> None:
    broker = ShownBroker(states=STATES[:1], error=KeyboardInterrupt())
    argv = ["leases", "--watch", "--format", "json"]
    assert main(argv, connect=broker.connect) is ExitCode.INTERRUPTED
    assert capsys.readouterr() == ("[]\n", "")
    assert broker.closed == 1


def test_a_broker_that_leaves_ends_a_watch_with_one_line(capsys: Output) -> None:
    broker = ShownBroker(error=BrokerUnavailable("unix:/x", "it closed the connection"))
    assert main(["leases", "--watch"], connect=broker.connect) is ExitCode.FAILURE
    assert capsys.readouterr().err == "furiosactl: no broker at unix:/x: it closed the connection\n"


# times


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-3, "0s"), (0.4, "0s"), (59.4, "59s"), (59.6, "1m00s"), (125, "2m05s"),
        (3600, "1h00m"), (86_399, "23h59m"), (86_400 * 12 + 4 * 3600 + 1, "12d04h"),
    ],
)  # fmt: skip
def test_a_span_has_its_two_largest_units(seconds: float, text: str) -> None:
    assert span(seconds) == text


def test_a_moment_is_in_utc() -> None:
    assert moment(0.0) == "1970-01-01T00:00:00Z"
    assert moment(None) is None
