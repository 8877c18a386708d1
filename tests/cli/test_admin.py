"""Commands of administrators: what is asked of the broker, and what is said about it."""

import time

import pytest

from furiosa.cli.args import duration, npu
from furiosa.cli.exitcodes import ExitCode
from furiosa.cli.furiosactl import main
from furiosa.common.errors import NotAllowed, UnknownLease
from furiosa.common.views import LeaseOverview
from support.shown_devices import ShownBroker, a_lease

Output = pytest.CaptureFixture[str]


@pytest.mark.parametrize(
    ("argv", "done", "said"),
    [
        (["cordon", "npu3"], ("cordon", 3, ""), "npu3 is cordoned\n"),
        (["cordon", "3", "--reason", "fan"], ("cordon", 3, "fan"), "npu3 is cordoned\n"),
        (["uncordon", "0"], ("uncordon", 0), "npu0 is no longer cordoned\n"),
        (["undrain", "npu0"], ("uncordon", 0), "npu0 is no longer cordoned\n"),
        (["drain", "1"], ("drain", 1, None, ""), "npu1 is drained; 1 lease revoked\n"),
        (
            ["drain", "1", "--grace", "2m", "--reason", "fan"],
            ("drain", 1, 120.0, "fan"),
            "npu1 is drained; 1 lease revoked\n",
        ),
        (["revoke", "5f3a"], ("revoke", "5f3a", None, ""), "lease 5f3a is recalled\n"),
        (["unreserve", "7ad1"], ("unreserve", "7ad1"), "7ad1 is over\n"),
        (
            ["revoke", "5f3a", "--grace", "500ms", "--reason", "fan"],
            ("revoke", "5f3a", 0.5, "fan"),
            "lease 5f3a is recalled\n",
        ),
    ],
)
def test_it_is_done_and_said(
    capsys: Output, argv: list[str], done: tuple[object, ...], said: str
) -> None:
    broker = ShownBroker(states=(LeaseOverview((a_lease(),), (), 1),))
    assert main(argv, connect=broker.connect) is ExitCode.OK
    assert broker.done == [done]
    assert capsys.readouterr() == (said, "")
    assert broker.closed == 1


def test_revoke_says_when_the_lease_ends(capsys: Output) -> None:
    lease = a_lease(ends_at=time.time() + 7200.4)
    broker = ShownBroker(states=(LeaseOverview((lease,), (), 1),))
    main(["revoke", "5f3a"], connect=broker.connect)
    assert capsys.readouterr().out == "lease 5f3a is recalled; it ends in 2h00m\n"


@pytest.mark.parametrize(
    ("argv", "error"),
    [
        (["drain", "0"], NotAllowed("uid:1000", "administer the broker")),
        (["revoke", "77"], UnknownLease("77")),
    ],
)
def test_a_refusal_is_one_line_and_a_failure(
    capsys: Output, argv: list[str], error: Exception
) -> None:
    broker = ShownBroker(error=error)
    assert main(argv, connect=broker.connect) is ExitCode.FAILURE
    assert capsys.readouterr() == ("", f"furiosactl: {error}\n")
    assert broker.closed == 1


@pytest.mark.parametrize(
    "argv",
    [
        ["drain"],
        ["drain", "npu0pe0"],
        ["cordon", "all"],
        ["cordon", "0", "--grace", "1s"],
        ["drain", "0", "--grace", "soon"],
        ["drain", "0", "--grace=-1s"],
        ["revoke"],
        ["config"],
        ["config", "check"],
        ["leases", "--format", "xml"],
    ],
)
def test_a_wrong_command_line_asks_no_broker(capsys: Output, argv: list[str]) -> None:
    broker = ShownBroker()
    assert main(argv, connect=broker.connect) is ExitCode.USAGE
    assert broker.asked_at == []
    assert "error: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("10s", 10.0), ("500ms", 0.5), ("2m", 120.0), ("1.5h", 5400.0), ("7", 7.0), ("0", 0.0)],
)
def test_times_have_units(text: str, seconds: float) -> None:
    assert duration(text) == seconds


def test_a_card_is_a_number_with_or_without_its_name() -> None:
    assert (npu("npu0"), npu("0"), npu("npu65535")) == (0, 0, 65535)
