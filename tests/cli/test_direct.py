"""furiosactl where real cards are and no broker: what it reads itself, and what it says."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from furiosa.cli import broker as brokers
from furiosa.cli.broker import connect
from furiosa.cli.direct import Direct
from furiosa.cli.furiosactl import main
from furiosa.client import address
from furiosa.sysfs.tree import MARKER
from support.devtrees import copied

SAID = (
    "furiosactl: no broker runs on this machine, so this is of /sys; "
    "start one with: systemctl start furiosa-brokerd\n"
)
EMULATED = "furiosactl: these cards are emulated\n"


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The tree of a machine with two cards. They are marked as virtual: git cannot keep a device node."""
    root = copied("two-cards", tmp_path)
    (root / MARKER).touch()
    monkeypatch.setattr(brokers, "ROOT", root)
    monkeypatch.setattr(address, "SYSTEM", address.UnixAddress(str(tmp_path / "none.sock")))
    monkeypatch.delenv("FURIOSA_BROKER", raising=False)
    return root


def test_cards_and_their_sensors_are_shown(
    machine: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["info"]) == 0
    out, err = capsys.readouterr()
    assert out.count("| npu") == 2
    assert "°C" in out
    assert err == SAID + EMULATED
    assert main(["list", "--format", "json"]) == 0
    out, err = capsys.readouterr()
    assert out.count('"status":"available"') == 4
    assert err == SAID
    assert main(["ps"]) == 0
    assert capsys.readouterr().out.count("\n") == 3


def test_what_only_a_broker_does_is_refused_by_name(
    machine: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for argv in (["leases"], ["top"], ["list", "-w"], ["drain", "npu0"]):
        assert main(argv) == 1
        last = capsys.readouterr().err.splitlines()[-1]
        assert last.startswith("furiosactl: no broker at unix:")
        assert last.endswith(
            "none runs on this machine; start one with: systemctl start furiosa-brokerd"
        )


def test_a_broker_that_is_named_is_asked_nevertheless(
    machine: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = str(machine / "other.sock")
    assert main(["list", "--broker", where]) == 1
    assert (
        capsys.readouterr().err
        == f"furiosactl: no broker at unix:{where}: No such file or directory\n"
    )


def test_a_card_that_cannot_be_read_is_there_without_its_values(machine: Path) -> None:
    for path in (machine / "sys").rglob("temp*_input"):
        path.write_text("warm")
    first, _ = Direct(machine).devices()
    assert (first.name, first.temperature_millicelsius) == ("npu0", None)
    assert first.power_microwatts is not None


def test_who_has_a_file_open_is_shown(machine: Path) -> None:
    node = machine / "dev" / "npu0pe0"
    code = "import sys; f = open(sys.argv[1]); print('open', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", code, str(node)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"open\n"
            found = Direct(machine)
            held = [(str(row.device_file), row.pid) for row in found.processes()]
            cores = [str(core) for core in found.devices()[0].cores]
        finally:
            process.kill()
    assert held == [("npu0pe0", process.pid)]
    assert cores == ["occupied by npu0pe0", "available"]


def test_without_cards_it_is_the_brokers_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, machine: Path
) -> None:
    monkeypatch.setattr(brokers, "ROOT", tmp_path / "empty")
    monkeypatch.setenv("FURIOSA_BROKER", str(tmp_path / "b.sock"))
    with pytest.raises(Exception, match="no broker at unix:"):
        connect(None)
    assert os.environ["FURIOSA_BROKER"]
