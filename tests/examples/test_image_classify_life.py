"""The web service from its start to its end, as `furiosactl` sees it."""

from pathlib import Path

from support.daemon import Daemon
from support.web_service import COMMAND, Service


def test_furiosactl_shows_exactly_its_command_line_until_it_ends(
    environ: dict[str, str], daemon: Daemon, tmp_path: Path
) -> None:
    service = Service(environ, tmp_path)
    try:
        shown = daemon.furiosactl("ps").stdout.splitlines()
    finally:
        said = service.stop()
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in shown if "|" in line]
    assert rows == [["NPU", "PID", "CMD"], ["npu0pe0-1", str(service.pid), " ".join(COMMAND)]]
    assert "Application shutdown complete." in said
    assert "0 (available), 1 (available)" in daemon.furiosactl("list").stdout
