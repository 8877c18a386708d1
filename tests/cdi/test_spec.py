"""What container runtimes are told of NPUs."""

import json
from pathlib import Path

import pytest

from furiosa.cdi import (
    FOLDERS,
    KIND,
    claim_device,
    claim_spec,
    node_spec,
    present,
    remove,
    text,
    write,
)
from furiosa.cdi.access import device_nodes, variable
from furiosa.common.names import DeviceFile
from furiosa.common.reservations import GrantsView
from furiosa.common.views import Origin
from support.shown_devices import a_device

WHERE = GrantsView("/var/lib/furiosa/grants", "/run/furiosa/broker.sock")
VIRTUAL = [a_device(index, origin=Origin.EMULATED) for index in (0, 1)]


def test_each_device_file_is_a_device_and_so_are_all_cards_together() -> None:
    spec = node_spec(VIRTUAL, WHERE)
    assert (spec["cdiVersion"], spec["kind"]) == ("0.3.0", "furiosa.ai/npu")
    assert [device["name"] for device in spec["devices"]] == [
        *("npu0", "npu0pe0", "npu0pe1", "npu0pe0-1"),
        *("npu1", "npu1pe0", "npu1pe1", "npu1pe0-1"),
        "all",
    ]


def test_a_device_is_its_grant_and_a_variable_of_its_own() -> None:
    (device,) = (d for d in node_spec(VIRTUAL, WHERE)["devices"] if d["name"] == "npu0pe0-1")
    assert device["containerEdits"] == {
        "env": ["FURIOSA_DEVICES_NPU0PE0_1=npu0pe0-1", "NPU_DEVNAME_NPU0PE0_1=npu0pe0-1"],
        "mounts": [
            {
                "hostPath": "/var/lib/furiosa/grants/devices/npu0pe0-1",
                "containerPath": "/dev/furiosa/npu0pe0-1",
                "options": ["ro", "nosuid", "nodev", "bind"],
            }
        ],
    }


def test_what_all_need_is_there_once() -> None:
    spec = node_spec(VIRTUAL, WHERE)
    assert spec["containerEdits"]["env"] == ["FURIOSA_BROKER=unix:/run/furiosa/broker.sock"]
    (mount,) = spec["containerEdits"]["mounts"]
    assert (mount["hostPath"], mount["containerPath"]) == ("/run/furiosa", "/run/furiosa")
    other = node_spec(VIRTUAL, GrantsView("/g", "/somewhere/b.sock"))["containerEdits"]
    assert other["env"] == ["FURIOSA_BROKER=unix:/run/furiosa/b.sock"]
    assert other["mounts"][0]["hostPath"] == "/somewhere"


def test_all_is_a_fused_pair_of_each_card() -> None:
    edits = node_spec(VIRTUAL, WHERE)["devices"][-1]["containerEdits"]
    assert edits["env"][0] == "FURIOSA_DEVICES_ALL=npu0pe0-1,npu1pe0-1"
    assert [mount["containerPath"] for mount in edits["mounts"]] == [
        "/dev/furiosa/npu0pe0-1",
        "/dev/furiosa/npu1pe0-1",
    ]


def test_a_machine_without_cards_has_no_devices() -> None:
    assert node_spec([], WHERE)["devices"] == []


def test_real_cards_have_device_nodes_and_virtual_ones_none() -> None:
    files = [DeviceFile.parse("npu1pe0")]
    nodes = ["/dev/npu1pe0", "/dev/npu1_mgmt", *(f"/dev/npu1ch{n}" for n in range(4))]
    assert list(device_nodes([a_device(0), a_device(1)], files)) == nodes
    assert device_nodes(VIRTUAL, files) == ()
    (device,) = (d for d in node_spec([a_device(1)], WHERE)["devices"] if d["name"] == "npu1pe0")
    assert [node["path"] for node in device["containerEdits"]["deviceNodes"]] == nodes
    assert all(
        not d["containerEdits"].get("deviceNodes") for d in node_spec(VIRTUAL, WHERE)["devices"]
    )


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        ("", "X"),
        ("npu0pe0-1", "X_NPU0PE0_1"),
        ("furiosa.ai/warboy-1core.8gb", "X_FURIOSA_AI_WARBOY_1CORE_8GB"),
    ],
)
def test_names_of_variables(part: str, expected: str) -> None:
    assert variable("X", part) == expected


def test_a_claim_has_its_grant_once_and_a_device_for_each_file() -> None:
    files = [DeviceFile.parse("npu0pe0"), DeviceFile.parse("npu1pe0-1")]
    spec = claim_spec("uid", files, "/g/reservations/ab", [a_device(1)], WHERE)
    assert spec["kind"] == "npu.furiosa.ai/claim"
    assert {m["hostPath"]: m["containerPath"] for m in spec["containerEdits"]["mounts"]} == {
        "/run/furiosa": "/run/furiosa",
        "/g/reservations/ab": "/dev/furiosa/ab",
    }
    one, other = spec["devices"]
    assert one == {
        "name": "uid-npu0pe0",
        "containerEdits": {
            "env": ["FURIOSA_DEVICES_NPU0PE0=npu0pe0", "NPU_DEVNAME_NPU0PE0=npu0pe0"]
        },
    }
    assert other["name"] == claim_device("uid", files[1])
    assert other["containerEdits"]["deviceNodes"][0]["path"] == "/dev/npu1pe0-1"


def test_a_file_is_replaced_in_one_step_and_others_are_left_alone(tmp_path: Path) -> None:
    folder = tmp_path / "cdi"
    path = folder / "furiosa.json"
    write(path, text(node_spec(VIRTUAL, WHERE)))
    (folder / "broken.json").write_text("{")
    (folder / "other.yaml").write_text("kind: vendor.com/gpu\ndevices: [{name: '0'}]\n")
    (folder / "no devices.json").write_text("{}")
    before = path.stat().st_ino
    write(path, text(node_spec(VIRTUAL[:1], WHERE)))
    assert path.stat().st_ino != before
    assert path.stat().st_mode & 0o777 == 0o644
    assert json.loads(path.read_text()) == node_spec(VIRTUAL[:1], WHERE)
    assert len(list(folder.iterdir())) == 4, "nothing is left over"
    found = dict(present(KIND, [folder, tmp_path / "nowhere"]))
    assert found["furiosa.ai/npu=npu0pe0"] == path
    assert len(found) == 5
    assert dict(present("vendor.com/gpu", [folder])) == {"vendor.com/gpu=0": folder / "other.yaml"}
    remove(path)
    remove(path)
    assert dict(present(KIND, [folder])) == {}
    assert [str(each) for each in FOLDERS] == ["/etc/cdi", "/var/run/cdi"]


def test_what_cannot_be_written_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "furiosa.json"
    write(path, "old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        write(path, "new")
    assert [each.name for each in tmp_path.iterdir()] == ["furiosa.json"]
    assert path.read_text() == "old"
