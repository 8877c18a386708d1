"""`furiosactl monitor` where it cannot show anything."""

import os
import pty
import subprocess
import sys

import pytest

from furiosa.cli.exitcodes import ExitCode
from furiosa.cli.furiosactl import main
from support.shown_devices import ShownBroker

WITHOUT_TEXTUAL = """
import sys
sys.modules["textual"] = None
from furiosa.cli.furiosactl import main
sys.exit(main(["monitor", "--broker", "unix:/nowhere/b.sock"]))
"""
ONLY_CARDS = """
import sys
from furiosa.cli.furiosactl import main
from furiosa.common.errors import BrokerUnavailable
class Cards:
    def overview(self):
        raise BrokerUnavailable("unix:/b.sock", "none runs on this machine")
sys.exit(main(["monitor"], connect=lambda address: Cards()))
"""


@pytest.mark.parametrize("argv", [["monitor"], ["top", "--tui"]])
def test_it_is_for_terminals(capsys: pytest.CaptureFixture[str], argv: list[str]) -> None:
    broker = ShownBroker()
    assert main(argv, connect=broker.connect) is ExitCode.USAGE
    assert capsys.readouterr() == (
        "",
        "furiosactl: monitor needs a terminal for its input and all of its output\n",
    )
    assert broker.asked_at == []


@pytest.mark.parametrize("text", ["99", "60001", "1.5", "-3", "²", "x"])
def test_an_interval_is_a_number_of_milliseconds(
    capsys: pytest.CaptureFixture[str], text: str
) -> None:
    assert main(["monitor", f"--interval={text}"]) is ExitCode.USAGE
    assert "is no interval: expected milliseconds, 100 to 60000" in capsys.readouterr().err


def on_a_terminal(code: str) -> tuple[int, str]:
    """Exit status of a program and what it wrote."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-c", code]
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    said = b""
    try:
        while part := os.read(ours, 65536):
            said += part
    except OSError:  # nobody has the other end any more
        pass
    finally:
        os.close(ours)
    return process.wait(), said.decode()


def test_without_textual_it_says_how_to_install_it() -> None:
    code, said = on_a_terminal(WITHOUT_TEXTUAL)
    assert code == ExitCode.FAILURE
    assert said == "furiosactl: monitor needs Textual: pip install 'furiosa-broker[monitor]'\r\n"


def test_without_a_broker_it_says_so_and_draws_nothing() -> None:
    code, said = on_a_terminal(WITHOUT_TEXTUAL.replace('sys.modules["textual"] = None', ""))
    assert code == ExitCode.FAILURE
    assert said.startswith("furiosactl: no broker at unix:/nowhere/b.sock")
    assert "\x1b" not in said


def test_where_only_the_cards_can_be_read_it_says_that_a_broker_is_missing() -> None:
    code, said = on_a_terminal(ONLY_CARDS)
    assert code == ExitCode.FAILURE
    assert said == "furiosactl: no broker at unix:/b.sock: none runs on this machine\r\n"


def test_other_commands_do_not_load_textual() -> None:
    code = "import sys; from furiosa.cli.furiosactl import main; main(['version']); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"textual", "rich", "asyncio"} & set(done.stdout.split())


@pytest.mark.parametrize("option", ["--count=3", "--format=json"])
def test_a_stream_and_a_view_are_not_asked_for_at_once(
    capsys: pytest.CaptureFixture[str], option: str
) -> None:
    assert main(["top", "--tui", option], connect=ShownBroker().connect) is ExitCode.USAGE
    assert "--tui goes with neither --count nor --format" in capsys.readouterr().err
