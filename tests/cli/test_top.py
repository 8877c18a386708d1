"""`furiosactl top`: the published stream. Source: furiosactl reference 7."""

import itertools
import json
import os
import pty
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from furiosa.cli.commands import top
from furiosa.cli.exitcodes import ExitCode
from furiosa.cli.furiosactl import main
from furiosa.cli.render.times import nanoseconds
from furiosa.common.errors import BrokerUnavailable
from furiosa.common.names import DeviceFile
from furiosa.common.views import Origin, UtilizationView
from support.shown_devices import ShownBroker

Output = pytest.CaptureFixture[str]
TESTS = Path(__file__).parent.parent
NOTES = (
    "NOTE: furiosa top is under development. Usage and output formats may change.\n"
    "Please enter Ctrl+C to stop.\n"
)
# of the published sample, and the places where its fields begin and end
HEADER = (
    "Datetime                        PID       Device        NPU(%)   Comp(%)   I/O(%)   Command\n"
)
FIELDS = ((0, 30), (32, 40), (42, 54), (56, 62), (65, 72), (75, 81), (84, None))
COMMAND = "./npu_runtime_test -n 10000 results/ResNet-CTC_kor1_200_nightly3_128dpes_8batches.enf"
STREAM = """
import sys
sys.path.insert(0, sys.argv.pop(1))
from furiosa.cli.furiosactl import main
from support.shown_devices import ShownBroker
sys.exit(main(sys.argv[1:], connect=ShownBroker().connect))
"""


def a_use(**changes: object) -> UtilizationView:
    fields: dict[str, object] = {
        "device_file": DeviceFile.parse("npu1pe0-1"),
        "window_ns": 10**9,
        "npu_fraction": 0.1906,
        "computation_fraction": 1.0,
        "io_fraction": 0.0,
        "pid": 152616,
        "command_line": COMMAND,
        "observed_at_ns": 1679391956_699483936,
    }
    return UtilizationView(**{**fields, **changes})  # type: ignore[arg-type]  # a builder


def rows(out: str) -> list[tuple[str, ...]]:
    """The fields of each line below the header, with their blanks."""
    header, *lines = out.splitlines()
    assert header + "\n" == HEADER
    for line in lines:
        assert all(
            line[end:start].strip() == "" for (_, end), (start, _) in itertools.pairwise(FIELDS)
        )
    return [tuple(line[start:end] for start, end in FIELDS) for line in lines]


def test_r21_r32_r33_r34_notes_come_first_and_a_header_once(capsys: Output) -> None:
    broker = ShownBroker(used=(a_use(),))
    assert main(["top", "--count", "3"], connect=broker.connect) is ExitCode.OK
    out, err = capsys.readouterr()
    assert err == NOTES
    assert out.count("Datetime") == 1
    assert len(rows(out)) == 3
    assert broker.closed == 1


def test_r22_r25_r26_r27_r28_r29_r30_r31_a_row_is_the_published_one(capsys: Output) -> None:
    broker = ShownBroker(used=(a_use(),))
    main(["top", "--count", "1"], connect=broker.connect)
    assert capsys.readouterr().out == HEADER + (
        "2023-03-21T09:45:56.699483936Z  152616    npu1pe0-1      19.06    100.00     0.00   "
        f"{COMMAND}\n"
    )


@pytest.mark.parametrize(("argv", "interval"), [([], 1000), (["--interval", "200"], 200)])
def test_r23_r24_the_interval_is_in_milliseconds(
    argv: list[str], interval: int, capsys: Output
) -> None:
    broker = ShownBroker()
    main(["top", "--count", "2", *argv], connect=broker.connect)
    assert broker.done == [("utilization", interval)] * 2
    assert capsys.readouterr().out == HEADER  # nobody uses anything


@pytest.mark.parametrize(
    ("epoch", "text"),
    [
        (1679391956_699483936, "2023-03-21T09:45:56.699483936Z"),
        (1679391958_139291220, "2023-03-21T09:45:58.13929122Z"),
        (1679391958_100000000, "2023-03-21T09:45:58.1Z"),
        (1679391960_000000000, "2023-03-21T09:46:00Z"),
        (1_000, "1970-01-01T00:00:00.000001Z"),
    ],
)
def test_r35_stamps_have_no_zeros_at_their_end_and_are_padded(
    epoch: int, text: str, capsys: Output
) -> None:
    assert nanoseconds(epoch) == text
    broker = ShownBroker(used=(a_use(observed_at_ns=epoch),))
    main(["top", "--count", "1"], connect=broker.connect)
    ((stamp, *_),) = rows(capsys.readouterr().out)
    assert stamp == text.ljust(30)


@pytest.mark.parametrize("thousandth", range(0, 1001, 7))
def test_r36_percentages_have_two_decimals_and_add_up(thousandth: int) -> None:
    computation = thousandth / 1000 + 0.00005
    (use,) = top.uses([a_use(computation_fraction=computation, io_fraction=1 - computation)])
    assert all(re.fullmatch(r"\d+\.\d\d", text) for text in (use.npu, use.comp, use.io))
    assert round(float(use.comp) + float(use.io), 2) == 100


def test_r36_what_was_not_used_has_three_zeros() -> None:
    (use,) = top.uses([a_use(npu_fraction=0.0, computation_fraction=0.0, io_fraction=0.0)])
    assert (use.npu, use.comp, use.io) == ("0.00", "0.00", "0.00")


def test_r37_a_command_line_is_whole_and_on_one_line(capsys: Output) -> None:
    long = "python3 " + "x" * 4000
    broker = ShownBroker(used=(a_use(command_line=long), a_use(command_line="a\nb\x1b[2J")))
    main(["top", "--count", "1"], connect=broker.connect)
    assert [row[-1] for row in rows(capsys.readouterr().out)] == [long, r"a\nb\x1b[2J"]


def test_for_programs_there_is_a_line_for_each_interval(capsys: Output) -> None:
    broker = ShownBroker(used=(a_use(), a_use(pid=0)))
    main(["top", "--count", "2", "--format", "json"], connect=broker.connect)
    out, err = capsys.readouterr()
    assert [len(json.loads(line)) for line in out.splitlines()] == [2, 2]
    assert list(json.loads(out.splitlines()[0])[0]) == [
        *("datetime", "pid", "device", "npu", "comp", "io", "command"),
    ]
    assert err == ""
    main(["top", "--count", "2", "--format", "yaml"], connect=broker.connect)
    assert capsys.readouterr().out.count("---\n- datetime: ") == 2


@pytest.mark.parametrize(
    "argv", [["--interval", text] for text in ("0", "-1", "60001", "1.5", "x")] + [["--count", "0"]]
)
def test_a_wrong_number_is_a_usage_error(argv: list[str], capsys: Output) -> None:
    assert main(["top", *argv], connect=ShownBroker().connect) == 2
    assert argv[1] in capsys.readouterr().err


def test_ctrl_c_ends_it_without_a_word(capsys: Output) -> None:
    broker = ShownBroker(error=KeyboardInterrupt())
    assert main(["top"], connect=broker.connect) is ExitCode.INTERRUPTED
    assert capsys.readouterr() == (HEADER, NOTES)
    assert broker.closed == 1


def test_a_broker_that_leaves_ends_it_with_one_line(capsys: Output) -> None:
    broker = ShownBroker(error=BrokerUnavailable("unix:/x", "it closed the connection"))
    assert main(["top"], connect=broker.connect) is ExitCode.FAILURE
    said = "furiosactl: no broker at unix:/x: it closed the connection\n"
    assert capsys.readouterr().err == NOTES + said


def test_emulated_cards_are_announced_first(capsys: Output) -> None:
    broker = ShownBroker(origin=Origin.EMULATED)
    main(["top", "--count", "1"], connect=broker.connect)
    assert capsys.readouterr().err == "furiosactl: these cards are emulated\n" + NOTES


def stream(**streams: int) -> "subprocess.Popen[bytes]":
    """A process of it that never has a row to write."""
    line = [sys.executable, "-c", STREAM, str(TESTS), "top", "--interval", "1"]
    return subprocess.Popen(line, stderr=subprocess.DEVNULL, **streams)  # type: ignore[call-overload,no-any-return]


def test_a_reader_that_left_ends_it_though_there_is_nothing_to_write() -> None:
    reader, writer = os.pipe()
    with stream(stdout=writer) as process:
        os.close(writer)
        try:
            assert os.read(reader, len(HEADER)).decode() == HEADER
            os.close(reader)
            assert process.wait(60) == 141
        finally:
            process.kill()


def test_a_terminal_that_was_closed_ends_it() -> None:
    ours, theirs = pty.openpty()
    with stream(stdout=theirs) as process:
        os.close(theirs)
        try:
            assert os.read(ours, 4096).startswith(b"Datetime")
            os.close(ours)
            assert process.wait(60) == 141
        finally:
            process.kill()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_end_the_process_at_once(number: signal.Signals) -> None:
    with stream(stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline().decode() == HEADER
            process.send_signal(number)
            assert process.wait(60) == (130 if number is signal.SIGINT else -number)
        finally:
            process.kill()
