import json

import pytest

from furiosa.cli.exitcodes import ExitCode
from furiosa.cli.furiosactl import main
from furiosa.common.errors import BrokerUnavailable
from furiosa.common.views import Origin
from support.shown_devices import ShownBroker, a_device, a_process

Output = pytest.CaptureFixture[str]

HELP = """\
furiosactl controls the FURIOSA NPU.

Find more information at: https://furiosa.ai/

Basic Commands:
  version    Print the furiosactl version information
  info       Show information one or many NPU(s)
  list       Display NPU device list
  ps         Show processes that hold NPU devices
  top        Show the utilization of NPU devices (experimental)
  monitor    Show cards, leases and waiters live

Broker Commands:
  leases     Show leases, and who waits for one
  revoke     Take a lease away
  cordon     Grant nothing of an NPU any more
  uncordon   Grant leases of an NPU again
  drain      Cordon an NPU and take its leases away
  undrain    The same as uncordon
  reserved   Show cores that are kept for containers
  unreserve  End a reservation of cores
  cdi        Offer NPUs to container runtimes
  config     Check the broker's configuration files

Virtual Card Commands:
  emulate    Make virtual NPUs fail, and well again

Options:
  --broker ADDRESS  where the broker is: unix:/path or host:port (default: $FURIOSA_BROKER)

Usage:
  furiosactl COMMAND
"""


@pytest.fixture
def broker() -> ShownBroker:
    return ShownBroker(held=(a_device(0),), running=(a_process(),))


@pytest.mark.parametrize("argv", [[], ["--help"], ["-h"]])
def test_r3_r6_r7_without_a_command_there_is_help(capsys: Output, argv: list[str]) -> None:
    assert main(argv) is ExitCode.OK
    assert capsys.readouterr() == (HELP, "")


def test_r10_the_help_of_info_says_why_a_card_may_be_missing(capsys: Output) -> None:
    assert main(["info", "--help"]) is ExitCode.OK
    said = " ".join(capsys.readouterr().out.split())
    assert "A card that is mounted but not shown needs its kernel driver" in said


@pytest.mark.parametrize(
    "argv",
    [
        ["top-secret"],
        ["info", "--format", "xml"],
        ["info", "--form", "json"],
        ["list", "--full"],
        ["--broker"],
    ],
)
def test_a_wrong_command_line_is_a_usage_error(capsys: Output, argv: list[str]) -> None:
    assert main(argv) is ExitCode.USAGE
    out, err = capsys.readouterr()
    assert out == ""
    assert "furiosactl" in err
    assert "error: " in err


def test_the_version_is_one_line_and_needs_no_broker(capsys: Output) -> None:
    broker = ShownBroker()
    assert main(["version"], connect=broker.connect) is ExitCode.OK
    out, err = capsys.readouterr()
    assert out.startswith("furiosactl ")
    assert out.count("\n") == 1
    assert err == ""
    assert broker.asked_at == []


@pytest.mark.parametrize("command", ["info", "list", "ps"])
@pytest.mark.parametrize("form", ["json", "yaml", None])
def test_r85_each_command_prints_in_each_format(
    capsys: Output, broker: ShownBroker, command: str, form: str | None
) -> None:
    argv = [command] if form is None else [command, "--format", form]
    assert main(argv, connect=broker.connect) is ExitCode.OK
    out, err = capsys.readouterr()
    assert out.startswith({"json": "[{", "yaml": "- ", None: "+--"}[form])
    assert "npu0" in out
    assert "\x1b" not in out
    assert err == ""
    assert broker.closed == 1


def test_full_adds_columns(capsys: Output, broker: ShownBroker) -> None:
    main(["info"], connect=broker.connect)
    assert "UUID" not in capsys.readouterr().out
    main(["info", "--full"], connect=broker.connect)
    assert "| UUID " in capsys.readouterr().out


def test_without_devices_there_is_a_head_and_success(capsys: Output) -> None:
    assert main(["info"], connect=ShownBroker().connect) is ExitCode.OK
    assert capsys.readouterr().out.splitlines()[1:2] == [
        "| NPU | Name | Firmware | Temp. | Power | PCI-BDF |"
    ]


@pytest.mark.parametrize(
    ("argv", "address"),
    [
        (["list"], None),
        (["--broker", "unix:/a", "list"], "unix:/a"),
        (["list", "--broker", "unix:/b"], "unix:/b"),
        (["--broker", "unix:/a", "list", "--broker", "unix:/b"], "unix:/b"),
    ],
)
def test_the_broker_is_the_one_asked_for(
    broker: ShownBroker, argv: list[str], address: str | None
) -> None:
    main(argv, connect=broker.connect)
    assert broker.asked_at == [address]


def test_an_address_that_is_none_is_one_line_on_stderr(capsys: Output) -> None:
    assert main(["--broker", "nowhere", "list"]) is ExitCode.FAILURE
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("furiosactl: ")
    assert "--broker" in err
    assert err.count("\n") == 1


def test_emulated_cards_are_announced_beside_tables_only(capsys: Output) -> None:
    broker = ShownBroker(held=(a_device(0, origin=Origin.EMULATED),), origin=Origin.EMULATED)
    main(["info"], connect=broker.connect)
    assert capsys.readouterr().err == "furiosactl: these cards are emulated\n"
    main(["info", "--format", "json"], connect=broker.connect)
    out, err = capsys.readouterr()
    assert err == ""
    assert json.loads(out)[0]["emulated"] == "true"


def test_no_broker_is_one_line_on_stderr(capsys: Output, broker: ShownBroker) -> None:
    broker.error = BrokerUnavailable("unix:/x", "connection refused")
    assert main(["info"], connect=broker.connect) is ExitCode.FAILURE
    assert capsys.readouterr() == ("", "furiosactl: no broker at unix:/x: connection refused\n")
    assert broker.closed == 1


def test_ctrl_c_ends_without_a_word(capsys: Output, broker: ShownBroker) -> None:
    broker.error = KeyboardInterrupt()
    assert main(["info"], connect=broker.connect) is ExitCode.INTERRUPTED
    assert capsys.readouterr() == ("", "")
    assert broker.closed == 1
