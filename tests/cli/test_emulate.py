"""`furiosactl emulate`: what is asked of the broker, and what is shown."""

import json
import time

import pytest

from furiosa.cli.exitcodes import ExitCode
from furiosa.cli.furiosactl import main
from furiosa.common.errors import BadArgument
from furiosa.common.faults import Dead, DmaError, Fault, FaultView, Hot, Hung, SlowDma
from furiosa.common.names import DeviceFile
from support.shown_devices import ShownBroker

Output = pytest.CaptureFixture[str]
CARD, PE1 = DeviceFile.parse("npu0"), DeviceFile.parse("npu0pe1")


@pytest.mark.parametrize(
    ("argv", "device", "fault", "seconds", "said"),
    [
        (["dead", "npu0"], "npu0", Dead(), None, "npu0: dead"),
        (["dead", "3", "--for", "2m"], "npu3", Dead(), 120.0, "npu3: dead; it ends in 2m00s"),
        (["hot", "0"], "npu0", Hot(99), None, "npu0: hot (99 C)"),
        (["hot", "0", "--celsius", "120"], "npu0", Hot(120), None, "npu0: hot (120 C)"),
        (["hung", "npu0pe1"], "npu0pe1", Hung(), None, "npu0pe1: hung"),
        (["hung", "0"], "npu0", Hung(), None, "npu0: hung"),
        (["dma-error", "npu0pe0-1"], "npu0pe0-1", DmaError(), None, "npu0pe0-1: dma-error (each run)"),
        (["dma-error", "0", "--count", "1"], "npu0", DmaError(1, 1), None,
         "npu0: dma-error (the next 1 run)"),
        (["dma-error", "0", "--count", "3"], "npu0", DmaError(1, 3), None,
         "npu0: dma-error (the next 3 runs)"),
        (["dma-error", "0", "--every", "4"], "npu0", DmaError(4), None,
         "npu0: dma-error (one run in 4)"),
        (["dma-error", "0", "--every", "4", "--count", "2"], "npu0", DmaError(4, 2), None,
         "npu0: dma-error (one run in 4, 2 in all)"),
        (["slow-dma", "0"], "npu0", SlowDma(5_000_000), None, "npu0: slow-dma (5 ms a run)"),
        (["slow-dma", "0", "--delay", "1.5ms"], "npu0", SlowDma(1_500_000), None,
         "npu0: slow-dma (1.5 ms a run)"),
    ],
)  # fmt: skip
def test_a_fault_is_asked_for_and_said(
    capsys: Output, argv: list[str], device: str, fault: Fault, seconds: float | None, said: str
) -> None:
    broker = ShownBroker()
    assert main(["emulate", *argv], connect=broker.connect) is ExitCode.OK
    assert broker.done == [("emulate", device, fault, seconds)]
    assert capsys.readouterr() == (f"{said}\n", "")
    assert broker.closed == 1


@pytest.mark.parametrize(
    ("argv", "npu", "count", "said"),
    [
        (["clear"], None, 2, "2 faults cleared\n"),
        (["clear", "npu3"], 3, 1, "1 fault cleared\n"),
        (["clear", "3"], 3, 0, "0 faults cleared\n"),
    ],
)
def test_faults_are_cleared(
    capsys: Output, argv: list[str], npu: int | None, count: int, said: str
) -> None:
    broker = ShownBroker(standing=(FaultView(CARD, Dead()),) * count)
    assert main(["emulate", *argv], connect=broker.connect) is ExitCode.OK
    assert broker.done == [("clear", npu)]
    assert capsys.readouterr() == (said, "")


@pytest.mark.parametrize("argv", [[], ["list"]])
def test_what_stands_is_shown(capsys: Output, argv: list[str]) -> None:
    hot = FaultView(CARD, Hot(), time.time() + 7200.4)
    broker = ShownBroker(standing=(hot, FaultView(PE1, DmaError(2)), FaultView(PE1, Hung())))
    assert main(["emulate", *argv], connect=broker.connect) is ExitCode.OK
    assert capsys.readouterr().out == (
        "+---------+-----------+--------------+----------+\n"
        "| DEVICE  | FAULT     | DETAIL       |     ENDS |\n"
        "+---------+-----------+--------------+----------+\n"
        "| npu0    | hot       | 99 C         | in 2h00m |\n"
        "+---------+-----------+--------------+----------+\n"
        "| npu0pe1 | dma-error | one run in 2 |        - |\n"
        "+---------+-----------+--------------+----------+\n"
        "| npu0pe1 | hung      | -            |        - |\n"
        "+---------+-----------+--------------+----------+\n"
    )


@pytest.mark.parametrize("argv", [["--format", "json"], ["list", "--format", "json"]])
def test_programs_get_every_field(capsys: Output, argv: list[str]) -> None:
    broker = ShownBroker(standing=(FaultView(CARD, Hot(), 1e9), FaultView(PE1, DmaError(2))))
    assert main(["emulate", *argv], connect=broker.connect) is ExitCode.OK
    assert json.loads(capsys.readouterr().out) == [
        {"device": "npu0", "fault": "hot", "celsius": 99, "ends_at": "2001-09-09T01:46:40Z"},
        {"device": "npu0pe1", "fault": "dma-error", "every": 2, "count": 0, "ends_at": None},
    ]


@pytest.mark.parametrize(
    "argv",
    [
        ["dead"],
        ["dead", "npu0pe1"],
        ["dead", "npu0", "--celsius", "9"],
        ["hot", "npu0", "--celsius", "warm"],
        ["hung", "pe1"],
        ["slow-dma", "npu0", "--delay", "long"],
        ["hung", "npu0", "--for", "ever"],
        ["clear", "npu0pe1"],
        ["melt", "npu0"],
    ],
)
def test_a_wrong_command_line_asks_no_broker(capsys: Output, argv: list[str]) -> None:
    broker = ShownBroker()
    assert main(["emulate", *argv], connect=broker.connect) is ExitCode.USAGE
    assert broker.asked_at == []
    assert "error: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["hot", "0", "--celsius", "900"], "celsius is 900, expected -40 to 200"),
        (
            ["slow-dma", "0", "--delay", "2m"],
            "delay is 120 s, expected more than 0 s, 60 s at most",
        ),
        (["dma-error", "0", "--every", "0"], "every is 0, expected 1 to 1000000000"),
    ],
)
def test_what_makes_no_sense_is_a_failure_that_says_so(
    capsys: Output, argv: list[str], said: str
) -> None:
    broker = ShownBroker()
    assert main(["emulate", *argv], connect=broker.connect) is ExitCode.FAILURE
    assert broker.done == []
    assert capsys.readouterr() == ("", f"furiosactl: {said}\n")


def test_a_refusal_is_one_line(capsys: Output) -> None:
    error = BadArgument("the card", "a real one", "a virtual one")
    broker = ShownBroker(error=error)
    assert main(["emulate", "dead", "0"], connect=broker.connect) is ExitCode.FAILURE
    assert capsys.readouterr() == ("", f"furiosactl: {error}\n")
