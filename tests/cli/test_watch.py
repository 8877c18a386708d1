"""`--watch` of list and ps: again after each change."""

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from furiosa.cli.exitcodes import ExitCode
from furiosa.cli.furiosactl import main
from furiosa.common.errors import BrokerUnavailable
from support.shown_devices import ShownBroker, a_device, a_process

Output = pytest.CaptureFixture[str]
TESTS = Path(__file__).parent.parent
SHOW = """
import sys
sys.path.insert(0, sys.argv.pop(1))
from furiosa.cli.furiosactl import main
from support.shown_devices import ShownBroker, a_device
sys.exit(main(sys.argv[1:], connect=ShownBroker(held=(a_device(0), a_device(1))).connect))
"""


@pytest.fixture
def broker() -> ShownBroker:
    """Has one more of each in every snapshot, up to two."""
    return ShownBroker((a_device(0), a_device(1)), (a_process("npu0"), a_process("npu1")))


@pytest.mark.parametrize("option", ["-w", "--watch"])
@pytest.mark.parametrize("command", ["list", "ps"])
def test_there_is_a_table_for_each_change_and_none_without_one(
    command: str, option: str, broker: ShownBroker, capsys: Output
) -> None:
    assert main([command, option], connect=broker.connect) is ExitCode.OK
    out, err = capsys.readouterr()
    assert [table.count("\n| npu") for table in out.split("\n\n")] == [0, 1, 2]
    assert err == ""
    assert broker.closed == 1


@pytest.mark.parametrize("command", ["list", "ps"])
def test_for_programs_there_is_a_document_for_each_change(
    command: str, broker: ShownBroker, capsys: Output
) -> None:
    main([command, "-w", "--format", "json"], connect=broker.connect)
    assert [len(json.loads(line)) for line in capsys.readouterr().out.splitlines()] == [0, 1, 2]
    main([command, "-w", "--format", "yaml"], connect=broker.connect)
    assert capsys.readouterr().out.startswith("---\n[]\n---\n- npu: npu0\n")


def test_a_broker_that_leaves_ends_it_with_one_line(broker: ShownBroker, capsys: Output) -> None:
    broker.error = BrokerUnavailable("unix:/x", "it closed the connection")
    assert main(["ps", "-w"], connect=broker.connect) is ExitCode.FAILURE
    assert capsys.readouterr().err == "furiosactl: no broker at unix:/x: it closed the connection\n"


@pytest.mark.parametrize(("term", "cleared"), [("xterm", 3), ("dumb", 0)])
def test_on_a_screen_each_table_takes_the_place_of_the_one_before(term: str, cleared: int) -> None:
    ours, theirs = pty.openpty()
    line = [sys.executable, "-c", SHOW, str(TESTS), "list", "-w"]
    try:
        subprocess.run(line, env={**os.environ, "TERM": term}, stdout=theirs, check=True)
        shown = os.read(ours, 65536).decode()
    finally:
        os.close(ours)
        os.close(theirs)
    assert shown.count("\x1b[H\x1b[J") == cleared
    assert shown.count("DEVFILES") == 3
