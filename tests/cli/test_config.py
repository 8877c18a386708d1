"""`furiosactl config check`: every problem of each file, with the file's name, and without a broker."""

from pathlib import Path

import pytest

from furiosa.cli.exitcodes import ExitCode
from furiosa.cli.furiosactl import main
from support.shown_devices import ShownBroker

Output = pytest.CaptureFixture[str]

TENANTS = """
[unmatched]
policy = "refuse"
[[tenant]]
name = "vision"
match = [{ uid = 1000 }]
"""
BAD_TENANTS = TENANTS.replace("1000", "-1") + "weight = 0\n"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def check(**files: str | bytes) -> int:
    """The status of a check of these files, named <name>.toml, in this order."""
    for name, content in files.items():
        data = content.encode() if isinstance(content, str) else content
        Path(f"{name}.toml").write_bytes(data)
    broker = ShownBroker()
    code = main(["config", "check", *(f"{name}.toml" for name in files)], connect=broker.connect)
    assert broker.asked_at == []
    return code


def test_sound_files_are_named_with_their_kind(capsys: Output) -> None:
    assert check(broker="emulate = 2\n", tenants=TENANTS, empty="") is ExitCode.OK
    out, err = capsys.readouterr()
    assert out == (
        "broker.toml: no problem found (settings)\n"
        "tenants.toml: no problem found (tenants)\n"
        "empty.toml: no problem found (settings)\n"
    )
    assert err == ""


def test_every_problem_of_a_tenants_file_is_a_line(capsys: Output) -> None:
    assert check(tenants=BAD_TENANTS) is ExitCode.FAILURE
    out, err = capsys.readouterr()
    assert out == ""
    lines = err.splitlines()
    assert len(lines) == 2
    assert all(line.startswith("tenants.toml: ") for line in lines)
    assert any("uid" in line for line in lines)
    assert any("weight" in line for line in lines)


@pytest.mark.parametrize("content", ["[defaults]\nwait = 1\n", "[unmatched]\nwait = 1\n"])
def test_a_tenants_file_is_known_by_its_keys(capsys: Output, content: str) -> None:
    assert check(odd=content) is ExitCode.FAILURE
    assert "wait" in capsys.readouterr().err
    assert check(odd="wait = 1\n") is ExitCode.FAILURE
    assert "unknown setting 'wait'" in capsys.readouterr().err


def test_a_bad_setting_is_said_once_with_its_file(capsys: Output) -> None:
    assert check(fine="", broker="emulate = -1\n") is ExitCode.FAILURE
    out, err = capsys.readouterr()
    assert out == "fine.toml: no problem found (settings)\n"
    assert err.startswith("broker.toml: emulate is -1, expected 0..")
    assert err.count("\n") == 1
    assert check(broker="emulat = 1\n") is ExitCode.FAILURE
    assert capsys.readouterr().err.startswith("broker.toml: unknown setting 'emulat'")


@pytest.mark.parametrize("content", ["[[tenant", b"\xff\xfe", "a=" + "[" * 100_000])
def test_what_is_no_toml_is_said_in_one_line(capsys: Output, content: str | bytes) -> None:
    assert check(broken=content) is ExitCode.FAILURE
    err = capsys.readouterr().err
    assert err.startswith("broken.toml: this is no TOML file: ")
    assert err.count("\n") == 1


def test_a_file_that_cannot_be_read_does_not_stop_the_others(capsys: Output) -> None:
    Path("fine.toml").write_text("")
    Path("-odd.toml").write_text("")
    argv = ["config", "check", "none.toml", ".", "fine.toml", "--", "-odd.toml"]
    assert main(argv) is ExitCode.FAILURE
    out, err = capsys.readouterr()
    assert err == "none.toml: No such file or directory\n.: Is a directory\n"
    assert out == (
        "fine.toml: no problem found (settings)\n-odd.toml: no problem found (settings)\n"
    )
