"""`furiosactl emulate` at a real broker: what clients see of each fault, and that all is well afterwards."""

import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from furiosa.broker.devices import read_counters
from furiosa.client.sync import Connection
from furiosa.common.errors import WorkerDied
from furiosa.common.faults import Hung
from furiosa.common.names import DeviceFile
from furiosa.common.selector import DeviceSpec
from furiosa.common.views import Availability, CoreState
from furiosa.runtime import FuriosaRuntimeError, sync
from support import digits
from support.clients import Steered
from support.daemon import Daemon
from support.virtual_cards import errors
from support.waiting import block_until

IMAGE = digits.held_out_images()[0]
LABEL = digits.held_out_labels()[0]
PE0 = DeviceFile.parse("npu0pe0")


@pytest.fixture(scope="module")
def shared() -> Iterator[Daemon]:
    terms = ("--recall-grace", "0.2", "--health-recovery", "0.5", "--run-timeout", "1")
    daemon = Daemon(2, *terms)
    daemon.start()
    yield daemon
    daemon.stop()


@pytest.fixture
def daemon(shared: Daemon, monkeypatch: pytest.MonkeyPatch) -> Iterator[Daemon]:
    """All cards are well."""
    monkeypatch.setenv("FURIOSA_BROKER", shared.environ["FURIOSA_BROKER"])
    yield shared
    with Connection.open(client="test") as connection:
        connection.clear_faults()
        block_until(lambda: {d.availability for d in connection.devices()} == {WELL})


WELL = Availability.AVAILABLE


@pytest.fixture(scope="module")
def enf() -> bytes:
    return digits.program()


def emulate(daemon: Daemon, *arguments: str) -> str:
    """What it says when it succeeds."""
    done = daemon.furiosactl("emulate", *arguments)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def root(daemon: Daemon) -> Path:
    return daemon.folder / "devices"


def answer(runner: sync.Runner) -> int:
    (logits,) = runner.run([IMAGE])
    return int(np.argmax(logits))


def unavailable(daemon: Daemon, npu: int) -> str:
    """Why, once it is; as `list` says it."""
    reason = ""

    def said() -> bool:
        nonlocal reason
        found = re.search(rf"npu{npu} is unavailable: (.*)\n", daemon.furiosactl("list").stderr)
        reason = found[1] if found else ""
        return found is not None

    block_until(said)
    return reason


def test_a_dead_card_is_taken_from_its_owner_and_is_back_when_cleared(daemon: Daemon) -> None:
    with Steered(daemon.environ) as owner:
        lease = owner.ask("acquire('npu:0:0')")
        assert emulate(daemon, "dead", "npu0") == "npu0: dead\n"
        cause = "npu0: the card does not answer (alive is 0)"
        said = owner.ask(f"notice({lease!r})")
        assert said[0] == ["LeaseRecalledNotice", cause]
        assert unavailable(daemon, 0) == "the card does not answer (alive is 0)"
        with Connection.open(client="test") as connection, connection.watch_devices() as states:
            for state in states:  # its worker is still being stopped
                if {core.state for core in state.items[0].cores} == {CoreState.UNAVAILABLE}:
                    break
        assert "npu0 | 0 (unavailable), 1 (unavailable)" in daemon.furiosactl("list").stdout
        owner.order("acquire('npu:0:0', 60)")
        assert emulate(daemon, "clear", "npu0") == "1 fault cleared\n"
        assert owner.answer()


def test_a_hot_card_shows_it_and_is_cold_when_cleared(daemon: Daemon) -> None:
    assert emulate(daemon, "hot", "1", "--celsius", "120") == "npu1: hot (120 C)\n"
    why = "the card is too hot: 120 C; it comes back below 85 C"
    assert unavailable(daemon, 1) == why
    (row,) = (line for line in daemon.furiosactl("info").stdout.splitlines() if "npu1" in line)
    assert "| 120°C |" in row
    emulate(daemon, "clear")
    with Connection.open(client="test") as connection:
        connection.acquire(DeviceSpec.parse("npu:1:0"), 60)
        heat = {device.index: device.temperature_millicelsius for device in connection.devices()}
    assert heat[1] == 40_000


def test_a_hung_core_is_found_and_freed_while_its_neighbour_works(
    daemon: Daemon, enf: bytes
) -> None:
    before = errors(root(daemon), 0).get("Device Error", 0)
    with (
        sync.create_runner(enf, device="npu:0:0") as runner,
        sync.create_runner(enf, device="npu:0:1") as neighbour,
    ):
        assert answer(runner) == LABEL
        assert emulate(daemon, "hung", "npu0pe0") == "npu0pe0: hung\n"
        assert answer(neighbour) == LABEL
        with pytest.raises(FuriosaRuntimeError, match="one run took longer than 1 s") as error:
            answer(runner)
        assert isinstance(error.value.__cause__, WorkerDied)
        assert error.value.__cause__.device == "npu0pe0"
        emulate(daemon, "clear", "0")
        assert answer(runner) == LABEL
        assert answer(neighbour) == LABEL
    block_until(lambda: errors(root(daemon), 0).get("Device Error", 0) == before + 1)


def test_dma_errors_are_named_and_counted_and_the_runner_goes_on(
    daemon: Daemon, enf: bytes
) -> None:
    with Connection.open(client="test") as connection:
        runner = sync.create_runner(enf, device="npu:1:0")
        with runner:
            said = emulate(daemon, "dma-error", "npu1", "--count", "2")
            assert said == "npu1: dma-error (the next 2 runs)\n"
            for _ in range(2):
                with pytest.raises(FuriosaRuntimeError, match=r"^npu1pe0: a DMA error: the inputs"):
                    answer(runner)
            assert answer(runner) == LABEL
            emulate(daemon, "dma-error", "npu1pe0", "--every", "2")
            assert answer(runner) == LABEL
            with pytest.raises(FuriosaRuntimeError, match="DMA error"):
                answer(runner)
            assert [str(view.device_file) for view in connection.faults()] == ["npu1", "npu1pe0"]
        block_until(lambda: errors(root(daemon), 1).get("PCIe Fetch Error") == 3)
    daemon.logged("a DMA error: the inputs did not reach the card (emulated)")


def test_slow_transfers_are_input_and_output_in_the_counters(daemon: Daemon, enf: bytes) -> None:
    with sync.create_runner(enf, device="npu:0:0") as runner:
        assert emulate(daemon, "slow-dma", "npu0", "--delay", "20ms").endswith("(20 ms a run)\n")
        block_until(lambda: read_counters(root(daemon), PE0) is not None)
        before = read_counters(root(daemon), PE0)  # of all that ran here, by whomever
        assert before is not None
        for _ in range(5):
            assert answer(runner) == LABEL

        def shows() -> bool:
            read = read_counters(root(daemon), PE0)
            return read is not None and read.task - before.task >= 100_000_000

        block_until(shows)
        read = read_counters(root(daemon), PE0)
    assert read is not None
    assert read.tensor - before.tensor < 0.5 * (read.task - before.task)


def test_a_fault_ends_by_itself_and_is_shown_until_then(daemon: Daemon) -> None:
    assert emulate(daemon, "dead", "npu1", "--for", "1h") == "npu1: dead; it ends in 1h00m\n"
    shown = daemon.furiosactl("emulate")
    assert "| npu1   | dead  | -      |" in shown.stdout
    assert shown.stderr == "furiosactl: these cards are emulated\n"
    emulate(daemon, "dead", "npu1", "--for", "1ms")
    daemon.logged("fault.ended device=npu1 fault=Dead()", 2)
    assert "dead" not in daemon.furiosactl("emulate", "list").stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("dead", "7"), "Device npu7 not found"),
        (("hung", "npu0pe7"), "Device npu0pe7 not found"),
        (("clear", "npu7"), "Device npu7 not found"),
        (("hot", "0", "--celsius", "999"), "celsius is 999, expected -40 to 200"),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value),
)
def test_what_cannot_be_done_is_said_and_changes_nothing(
    daemon: Daemon, arguments: tuple[str, ...], said: str
) -> None:
    done = daemon.furiosactl("emulate", *arguments)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", f"furiosactl: {said}\n")
    assert daemon.furiosactl("emulate", "--format", "json").stdout == "[]\n"


def test_a_broker_that_starts_has_cards_that_are_well(monkeypatch: pytest.MonkeyPatch) -> None:
    daemon = Daemon(1)
    daemon.start()
    monkeypatch.setenv("FURIOSA_BROKER", daemon.environ["FURIOSA_BROKER"])
    try:
        emulate(daemon, "dead", "0")
        with Connection.open(client="test") as connection:
            connection.emulate(PE0, Hung())
        os.kill(daemon.pid, signal.SIGKILL)
        daemon.wait()
        daemon.start()
        with Connection.open(client="test") as connection:
            assert connection.faults() == ()
            assert connection.acquire(DeviceSpec.parse("npu:0:0"))
        assert (root(daemon) / "sys/class/npu_mgmt/npu0_mgmt/alive").read_text() == "1\n"
    finally:
        daemon.stop()
