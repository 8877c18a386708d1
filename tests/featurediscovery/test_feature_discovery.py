"""The file that Node Feature Discovery reads, through a real broker and without one."""

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from furiosa.client.address import UnixAddress
from furiosa.featurediscovery.main import Discovery, Settings, main
from support.daemon import Daemon
from support.waiting import until

Output = pytest.CaptureFixture[str]


@pytest.fixture
def daemon() -> Iterator[Daemon]:
    made = Daemon(2)
    made.start()
    yield made
    made.stop()


def test_virtual_cards_are_labelled_through_the_broker(daemon: Daemon, tmp_path: Path) -> None:
    output = tmp_path / "furiosa-npu"
    arguments = ["--oneshot", "--output", str(output)]
    assert main(arguments, daemon.environ) == 0
    lines = output.read_text().splitlines()
    assert "beta.furiosa.ai/npu.count=2" in lines
    assert "beta.furiosa.ai/npu.family=warboy" in lines
    assert output.stat().st_mode & 0o777 == 0o644
    before = output.stat().st_ino
    assert main(arguments, daemon.environ) == 0
    assert output.stat().st_ino == before, "what is right stays"
    output.write_text("old")
    assert main(arguments, daemon.environ) == 0
    assert output.read_text().splitlines() == lines
    assert [path.name for path in tmp_path.iterdir()] == ["furiosa-npu"]


async def test_a_machine_says_who_made_it(daemon: Daemon, tmp_path: Path) -> None:
    (tmp_path / "sys_vendor").write_text("Example Corp.\n")
    settings = Settings(tmp_path / "out", machine=tmp_path, broker=UnixAddress(str(daemon.socket)))
    await Discovery(settings).once()
    text = (tmp_path / "out").read_text()
    assert "beta.furiosa.ai/machine.vendor=Example-Corp\n" in text
    assert "machine.name" not in text


def test_without_broker_and_cards_there_is_no_file(tmp_path: Path) -> None:
    output = tmp_path / "furiosa-npu"
    output.write_text("old")
    environ = {
        "FURIOSA_BROKER": f"unix:{tmp_path}/nobody.sock",
        "FURIOSA_DEVICE_ROOT": str(tmp_path),
    }
    assert main(["--oneshot", "--output", str(output)], environ) == 0
    assert not output.exists()


def test_a_broker_elsewhere_that_is_away_changes_nothing(tmp_path: Path, capsys: Output) -> None:
    output = tmp_path / "furiosa-npu"
    output.write_text("old")
    environ = {"FURIOSA_BROKER": "127.0.0.1:1", "FURIOSA_REMOTE_INSECURE": "1"}
    assert main(["--oneshot", "--output", str(output)], environ) in (1, 2)
    assert output.read_text() == "old"
    assert capsys.readouterr().err.startswith("furiosa-npu-feature-discovery: ")


def test_a_folder_that_is_not_there_is_told(daemon: Daemon, tmp_path: Path, capsys: Output) -> None:
    output = tmp_path / "nowhere" / "furiosa-npu"
    assert main(["--oneshot", "--output", str(output)], daemon.environ) == 1
    assert capsys.readouterr().err == (
        f"furiosa-npu-feature-discovery: {output}: No such file or directory\n"
    )


@pytest.mark.parametrize("text", ["0", "soon", "inf"])
def test_a_time_that_makes_no_sense_is_refused(text: str, capsys: Output) -> None:
    with pytest.raises(SystemExit):
        main(["--interval", text], os.environ)
    assert f"'{text}' is no time: expected seconds" in capsys.readouterr().err


async def test_it_goes_on_when_the_broker_comes_and_goes(
    daemon: Daemon, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    missing = tmp_path / "folder"
    broker = UnixAddress(str(daemon.socket))
    running = asyncio.ensure_future(Discovery(Settings(missing / "out", 0.01, broker=broker)).run())
    await until(lambda: "labels stay as they are" in caplog.text)
    missing.mkdir()
    await until((missing / "out").exists)
    running.cancel()
    assert caplog.text.count("labels stay as they are") == 1
