"""furiosactl and a real broker: the quick way shows what the whole command line shows."""

import pytest

from furiosa.cli import quick
from furiosa.runtime.sync import Runtime
from support.daemon import Daemon


@pytest.mark.parametrize("argv", [["list"], ["info"], ["info", "--full"], ["ps"]], ids=" ".join)
def test_both_ways_show_the_same(
    argv: list[str],
    daemon: Daemon,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    address = daemon.environ["FURIOSA_BROKER"]
    monkeypatch.setenv("FURIOSA_BROKER", address)
    with Runtime("npu0pe1") as runtime:
        assert runtime.devices == ("npu0pe1",)
        assert quick.run(argv) == 0
        whole = daemon.furiosactl("--broker", address, *argv)
    ours = capsys.readouterr()
    assert (ours.out, ours.err) == (whole.stdout, whole.stderr)
    assert "npu0" in ours.out
    assert ours.err == "furiosactl: these cards are emulated\n"
