"""What deploy/ installs, judged by the tools that will read it, in folders of their own."""

import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from furiosa.broker.settings import PREFIX, BrokerSettings

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
SERVICE = DEPLOY / "systemd" / "furiosa-brokerd.service"
SINCE_254 = (
    "FileDescriptorStorePreserve"  # older ones warn, and keep the store over a restart anyway
)

EXPOSURE = 4.5  # of 10; what remains is what the broker does, see the unit


def needs(tool: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(shutil.which(tool) is None, reason=f"no {tool} on this machine")


@pytest.fixture
def root() -> Iterator[Path]:
    """An empty system."""
    path = Path(tempfile.mkdtemp(prefix="fb", dir="/tmp"))
    (path / "etc").mkdir()
    yield path
    shutil.rmtree(path)


@pytest.fixture
def units(root: Path) -> Path:
    """Our units, with a daemon that exists."""
    folder = root / "units"
    shutil.copytree(DEPLOY / "systemd", folder)
    unit = folder / SERVICE.name
    brokerd = Path(sys.executable).with_name("furiosa-brokerd")
    unit.write_text(unit.read_text().replace("/opt/furiosa/bin/furiosa-brokerd", str(brokerd)))
    return folder


def parsed(path: Path) -> dict[str, dict[str, list[str]]]:
    """Sections, and for each key its values in order."""
    sections: dict[str, dict[str, list[str]]] = {}
    for line in path.read_text().splitlines():
        if line.startswith("["):
            section = sections.setdefault(line.strip("[]"), {})
        elif line and not line.startswith("#"):
            key, _, value = line.partition("=")
            section.setdefault(key, []).append(value)
    return sections


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*map(str, command)], capture_output=True, text=True, timeout=60, check=False
    )


@needs("systemd-analyze")
def test_systemd_finds_no_fault_with_the_units(units: Path) -> None:
    done = run("systemd-analyze", "verify", "--man=no", *sorted(units.iterdir()))
    ours = [line for line in done.stderr.splitlines() if "furiosa" in line]
    assert [line for line in ours if not any(key in line for key in SINCE_254)] == []
    assert done.returncode == 0


@needs("systemd-analyze")
def test_the_service_is_as_confined_as_its_job_allows(units: Path) -> None:
    limit = f"--threshold={EXPOSURE * 10:.0f}"
    done = run("systemd-analyze", "security", "--offline=true", limit, units / SERVICE.name)
    assert done.returncode == 0, done.stdout


def test_each_socket_unit_is_what_the_broker_looks_for() -> None:
    default = BrokerSettings()
    wanted = {"grpc": default.socket, "handoff": default.handoff_socket}
    sockets = {path.name: parsed(path)["Socket"] for path in DEPLOY.glob("systemd/*.socket")}
    found = {
        socket["FileDescriptorName"][0]: Path(socket["ListenStream"][0])
        for socket in sockets.values()
    }
    assert found == wanted
    for socket in sockets.values():
        assert socket["Service"] == [SERVICE.name]
        assert socket["SocketGroup"] == [default.socket_group]
        assert int(socket["SocketMode"][0], 8) == default.socket_mode
    service = parsed(SERVICE)
    assert set(service["Service"]["Sockets"][0].split()) == set(sockets)
    assert set(service["Install"]["Also"][0].split()) == set(sockets)


def test_the_service_sets_only_settings_that_exist() -> None:
    names = {f"{PREFIX}{name.upper()}" for name in BrokerSettings.__dataclass_fields__}
    for assignment in parsed(SERVICE)["Service"]["Environment"]:
        assert assignment.partition("=")[0] in names


def test_the_folders_of_the_service_are_those_of_the_broker() -> None:
    service = parsed(SERVICE)["Service"]
    default = BrokerSettings()
    assert Path("/var/lib", *service["StateDirectory"]) == default.state
    assert Path("/run", *service["RuntimeDirectory"]) == default.socket.parent


@needs("systemd-sysusers")
def test_the_group_and_the_user_are_made(root: Path) -> None:
    done = run("systemd-sysusers", f"--root={root}", DEPLOY / "sysusers.d" / "furiosa.conf")
    assert done.returncode == 0, done.stderr
    groups = (root / "etc/group").read_text()
    assert re.search(rf"^{BrokerSettings().socket_group}:", groups, re.MULTILINE)
    [user] = (root / "etc/passwd").read_text().splitlines()
    name, _, uid, _, _, home, shell = user.split(":")
    assert (home, shell) == ("/", "/usr/sbin/nologin")
    assert int(uid) < 1000
    assert f"{PREFIX}WORKER_USER={name}" in parsed(SERVICE)["Service"]["Environment"]


@needs("systemd-tmpfiles")
def test_the_folders_are_made(root: Path) -> None:
    shutil.copy("/etc/passwd", root / "etc")
    shutil.copy("/etc/group", root / "etc")
    file = DEPLOY / "tmpfiles.d" / "furiosa.conf"
    done = run("systemd-tmpfiles", "--create", f"--root={root}", file)
    assert done.returncode == 0, done.stderr
    modes = {
        folder: f"{(root / folder).stat().st_mode & 0o777:o}"
        for folder in ("run/furiosa", "etc/furiosa", "var/lib/furiosa", "var/log/furiosa")
    }
    assert list(modes.values()) == ["755", "755", "700", "750"]


@needs("udevadm")
def test_udev_finds_no_fault_with_the_rule() -> None:
    done = run("udevadm", "verify", DEPLOY / "udev" / "70-furiosa.rules")
    if "Unknown command" in done.stderr or "invalid" in done.stderr.lower():
        pytest.skip("this udevadm, from before 254, cannot verify")
    assert done.returncode == 0, done.stderr


def test_the_udev_rule_is_for_npus_and_their_group() -> None:
    lines = (DEPLOY / "udev" / "70-furiosa.rules").read_text().splitlines()
    [rule] = [line for line in lines if not line.startswith("#")]
    assert dict(re.findall(r'(\w+)(?:==|=)"([^"]*)"', rule)) == {
        "SUBSYSTEM": "npu*",
        "KERNEL": "npu[0-9]*",
        "GROUP": BrokerSettings().socket_group,
        "MODE": "0660",
    }


@needs("logrotate")
def test_logrotate_finds_no_fault_with_the_snippet(root: Path) -> None:
    file = shutil.copy(DEPLOY / "logrotate" / "furiosa", root)
    done = run("logrotate", "--debug", f"--state={root}/state", file)
    assert done.returncode == 0, done.stderr
    assert "error" not in done.stderr
