"""Whether a SIGTERM means the end: what systemctl prints, and what it cannot tell."""

import stat
from pathlib import Path

import pytest

from furiosa.broker import unit
from furiosa.broker.unit import is_being_stopped, job_of, unit_of

UNIT = "furiosa-brokerd.service"


@pytest.mark.parametrize(
    ("cgroups", "found"),
    [
        ("0::/system.slice/furiosa-brokerd.service\n", UNIT),
        ("0::/system.slice/furiosa-brokerd.service/broker\n", UNIT),
        ("12:cpu:/system.slice/other.service\n0::/system.slice/furiosa-brokerd.service\n", UNIT),
        ("12:cpu:/system.slice/other.service\n", None),
        ("0::/user.slice/session-1.scope\n", None),
        ("0::/\n", None),
        ("", None),
    ],
)
def test_the_unit_of_a_process_is_in_its_cgroup(cgroups: str, found: str | None) -> None:
    assert unit_of(cgroups) == found


@pytest.mark.parametrize(
    ("listed", "job"),
    [
        ("71 furiosa-brokerd.service stop running\n", "stop"),
        ("71 furiosa-brokerd.service restart running\n", "restart"),
        ("70 other.service stop waiting\n71 furiosa-brokerd.service restart running\n", "restart"),
        ("70 other.service stop running\n", None),
        ("No jobs running.\n", None),
        ("", None),
    ],
)
def test_its_job_is_what_systemctl_lists(listed: str, job: str | None) -> None:
    assert job_of(listed, UNIT) == job


@pytest.fixture
def systemctl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What is found by that name, for a process of our unit."""
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(unit, "unit_of", lambda _: UNIT)
    return tmp_path / "systemctl"


def program(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


@pytest.mark.parametrize(
    ("text", "stopped"),
    [
        (f"echo 71 {UNIT} stop running", True),
        (f"echo 71 {UNIT} restart running", False),
        ("exit 1", False),
        (r"printf '\377\376'", False),
        ("sleep 1000", False),
    ],
)
async def test_what_cannot_be_told_is_no_stop(
    systemctl: Path, monkeypatch: pytest.MonkeyPatch, text: str, stopped: bool
) -> None:
    monkeypatch.setattr(unit, "ANSWER_SECONDS", 0.2 if "sleep" in text else 20.0)
    program(systemctl, f"exec {text}" if "sleep" in text else text)
    assert await is_being_stopped() is stopped


async def test_a_machine_without_systemctl_has_no_stop(
    systemctl: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(systemctl.parent))
    assert await is_being_stopped() is False
