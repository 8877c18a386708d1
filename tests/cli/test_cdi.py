"""`furiosactl cdi` and `furiosactl reserved`."""

import json
from pathlib import Path

import pytest
import yaml

from furiosa.cli.commands.reserved import report
from furiosa.cli.exitcodes import ExitCode
from furiosa.cli.furiosactl import main
from furiosa.cli.render.table import draw
from furiosa.common.names import DeviceFile
from furiosa.common.reservations import ReservationState, ReservationView
from furiosa.common.views import Container
from support.shown_devices import ShownBroker, a_device

Output = pytest.CaptureFixture[str]


@pytest.fixture
def broker() -> ShownBroker:
    return ShownBroker(held=(a_device(0),))


def test_the_specification_is_printed(broker: ShownBroker, capsys: Output) -> None:
    assert main(["cdi", "generate"], connect=broker.connect) is ExitCode.OK
    spec = json.loads(capsys.readouterr().out)
    assert (spec["kind"], len(spec["devices"])) == ("furiosa.ai/npu", 5)
    assert main(["cdi", "generate", "--format", "yaml"], connect=broker.connect) is ExitCode.OK
    assert yaml.safe_load(capsys.readouterr().out) == spec
    assert broker.closed == 2


@pytest.mark.parametrize("name", ["furiosa.json", "furiosa.yaml", "furiosa.yml"])
def test_it_is_written_in_the_form_that_its_name_says(
    broker: ShownBroker, capsys: Output, tmp_path: Path, name: str
) -> None:
    path = tmp_path / "cdi" / name
    assert main(["cdi", "generate", "--output", str(path)], connect=broker.connect) is ExitCode.OK
    assert capsys.readouterr() == ("", f"furiosactl: 5 devices in {path}\n")
    text = path.read_text()
    spec = json.loads(text) if name.endswith("json") else yaml.safe_load(text)
    assert spec["kind"] == "furiosa.ai/npu"
    listing = ["cdi", "list", "--folder", str(path.parent)]
    assert main(listing, connect=broker.connect) is ExitCode.OK
    assert capsys.readouterr().out.splitlines()[1] == "furiosa.ai/npu=npu0pe0"


def test_a_name_that_no_runtime_reads_is_refused(
    broker: ShownBroker, capsys: Output, tmp_path: Path
) -> None:
    for path, form in ((tmp_path / "x", []), (tmp_path / "x.json", ["--format", "yaml"])):
        argv = ["cdi", "generate", "--output", str(path), *form]
        assert main(argv, connect=broker.connect) is ExitCode.USAGE
        assert "runtimes read it only as *." in capsys.readouterr().err
        assert not path.exists()


def test_a_folder_that_cannot_be_written_is_told(
    broker: ShownBroker, capsys: Output, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    argv = ["cdi", "generate", "--output", str(tmp_path / "file" / "x.json")]
    assert main(argv, connect=broker.connect) is ExitCode.FAILURE
    assert "File exists" in capsys.readouterr().err


def test_without_devices_the_way_to_them_is_told(capsys: Output, tmp_path: Path) -> None:
    assert main(["cdi", "list", "--folder", str(tmp_path)]) is ExitCode.OK
    out, err = capsys.readouterr()
    assert (out, "`furiosactl cdi generate` makes them" in err) == ("", True)


def test_reservations_are_shown(broker: ShownBroker, capsys: Output) -> None:
    pod = Container("containerd", "a" * 64, "6d1a2b3c-0f0e-4111-8222-333344445555")
    files = (DeviceFile.parse("npu0pe0"), DeviceFile.parse("npu1pe0-1"))
    bound, opened = ReservationState.BOUND, ReservationState.OPEN
    views = (
        ReservationView("7ad1", files, "m/npu", "", "job", bound, pod, (4, 7), 40.0, "/g/7ad1"),
        ReservationView("8be2", files[:1], "dra", "uid", "x", opened, None, (), 90.0, "/g/8be2"),
        ReservationView(
            "9cf3", files[:1], "m", "", "", bound, Container("podman", "b" * 64), (), 99.0, ""
        ),
    )
    rows = [line.split("|") for line in draw(report(views, now=100.0).table).splitlines()]
    cells = [[cell.strip() for cell in row[1:-1]] for row in rows if len(row) > 2]
    assert cells == [
        ["RESERVATION", "DEVICE", "STATE", "MANAGER", "FOR", "POD/CONTAINER", "PIDS", "AGE"],
        [
            "7ad1",
            "npu0pe0, npu1pe0-1",
            "bound",
            "m/npu",
            "job",
            f"pod {pod.pod_uid}",
            "4, 7",
            "1m00s",
        ],
        ["8be2", "npu0pe0", "open", "dra", "uid", "-", "-", "10s"],
        ["9cf3", "npu0pe0", "bound", "m", "-", f"podman {'b' * 12}", "-", "1s"],
    ]
    shown = ShownBroker(held=(a_device(0),), reserved=views)
    assert main(["reserved", "--format", "json"], connect=shown.connect) is ExitCode.OK
    first = json.loads(capsys.readouterr().out)[0]
    assert first["devices"] == ["npu0pe0", "npu1pe0-1"]
    assert first["container"]["pod_uid"] == pod.pod_uid
    assert (first["pids"], first["created_at"], first["grant"]) == (
        [4, 7],
        "1970-01-01T00:00:40Z",
        "/g/7ad1",
    )
