"""furiosactl as a process: start-up cost, and what becomes of its output."""

import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from furiosa.common import wire
from furiosa.proto.broker.v1 import leases_pb2
from support.fake_broker import FakeBroker, fake_broker, replies
from support.shown_devices import a_lease

TESTS = Path(__file__).parent.parent
SHOW = """
import sys
sys.path.insert(0, sys.argv.pop(1))
from furiosa.cli.furiosactl import main
from support.shown_devices import ShownBroker, a_device
sys.exit(main(sys.argv[1:], connect=ShownBroker(held=(a_device(),)).connect))
"""


def command(*argv: str) -> list[str]:
    return [sys.executable, "-c", SHOW, str(TESTS), *argv]


def environment(**changes: str) -> dict[str, str]:
    return {**os.environ, "TERM": "xterm", **changes}


def test_no_heavy_library_is_loaded() -> None:
    code = """
import sys
from furiosa.cli.furiosactl import main
assert main(["version"]) == 0
heavy = {"grpc", "numpy", "anyio", "asyncio", "onnx", "onnxruntime", "google.protobuf"}
print(*sorted(heavy & sys.modules.keys()))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    version, heavy = done.stdout.splitlines()
    assert version.startswith("furiosactl ")
    assert heavy == ""


MAIN = "import sys; from furiosa.cli.furiosactl import main; sys.exit(main())"
HEAVY = """
import sys
from furiosa.cli.furiosactl import main
code = main(sys.argv[1:])
print(*sorted({"grpc", "numpy", "anyio", "asyncio", "onnx", "tomllib"} & sys.modules.keys()))
sys.exit(code)
"""


@pytest.fixture
def broker() -> Iterator[FakeBroker]:
    lease = wire.lease_to_wire(a_lease())
    with fake_broker(
        Leases_List=replies(leases_pb2.ListLeasesResponse(leases=[lease])),
        Leases_Watch=replies(leases_pb2.WatchLeasesResponse(leases=[lease])),
    ) as broker:
        yield broker


def test_a_local_broker_is_asked_without_a_heavy_library(broker: FakeBroker) -> None:
    line = [sys.executable, "-c", HEAVY, "--broker", str(broker.address), "leases"]
    done = subprocess.run(line, capture_output=True, text=True, check=True)
    *_, row, _, heavy = done.stdout.split("\n")[:-1]
    assert row.startswith("| 5f3a  | npu0pe0-1 | granted |")
    assert heavy == ""


def test_ctrl_c_in_a_watch_is_clean(broker: FakeBroker) -> None:
    line = [sys.executable, "-c", MAIN, "--broker", str(broker.address)]
    line += ["leases", "--watch", "--format", "json"]
    process = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    with process:
        try:
            assert process.stdout.readline().startswith('[{"lease":"5f3a"')
            process.send_signal(signal.SIGINT)
            assert process.communicate() == ("", "")
        finally:
            process.kill()
    assert process.returncode == 130


def test_a_reader_that_left_ends_it_quietly() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(command("info"), stdout=writer, stderr=subprocess.PIPE, check=False)
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")


def test_a_full_disk_is_a_failure_and_said_once() -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            command("info"), stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert (done.returncode, done.stderr) == (
        1,
        "furiosactl: [Errno 28] No space left on device\n",
    )


@pytest.mark.parametrize("argv", [("info",), ()])
def test_closed_output_is_no_failure(argv: tuple[str, ...]) -> None:
    line = ["sh", "-c", '"$@" >&-', "sh", *command(*argv)]
    done = subprocess.run(line, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_output_is_utf8_whatever_the_locale() -> None:
    done = subprocess.run(
        command("info"),
        env=environment(LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0"),
        capture_output=True,
        check=True,
    )
    assert "54°C" in done.stdout.decode("utf-8")


@pytest.mark.parametrize(("term", "bold"), [("xterm", True), ("dumb", False)])
def test_titles_are_bold_on_a_terminal(term: str, bold: bool) -> None:
    ours, theirs = pty.openpty()
    try:
        subprocess.run(command("info"), env=environment(TERM=term), stdout=theirs, check=True)
        shown = os.read(ours, 65536).decode()
    finally:
        os.close(ours)
        os.close(theirs)
    assert ("\x1b[1mNPU\x1b[0m" in shown) is bold
    assert "| npu1 | warboy |" in shown
