"""The published tables and samples, byte for byte. Source: seed R12-R20, furiosactl reference 3-8."""

from furiosa.broker.devices import read_sensors
from furiosa.cli.render.json_ import json_text
from furiosa.cli.render.table import draw
from furiosa.cli.render.yaml_ import yaml_text
from furiosa.cli.tables import info, list_, ps
from furiosa.common.names import DeviceFile
from furiosa.common.views import Availability, CoreState, CoreView, Origin, ProcessView
from furiosa.sysfs import discover
from support.devtrees import is_file, recorded
from support.shown_devices import a_device, a_process

INFO = """\
+------+--------+----------------+-------+--------+--------------+
| NPU  | Name   | Firmware       | Temp. | Power  | PCI-BDF      |
+------+--------+----------------+-------+--------+--------------+
| npu1 | warboy | 1.6.0, 3c10fd3 |  54°C | 0.99 W | 0000:44:00.0 |
+------+--------+----------------+-------+--------+--------------+
"""
INFO_FULL = """\
+------+--------+--------------------------------------+-------------------+----------------+-------+--------+--------------+---------+
| NPU  | Name   | UUID                                 | S/N               | Firmware       | Temp. | Power  | PCI-BDF      | PCI-DEV |
+------+--------+--------------------------------------+-------------------+----------------+-------+--------+--------------+---------+
| npu1 | warboy | 00000000-0000-0000-0000-000000000000 | WBYB0000000000000 | 1.6.0, 3c10fd3 |  54°C | 0.99 W | 0000:44:00.0 | 511:0   |
+------+--------+--------------------------------------+-------------------+----------------+-------+--------+--------------+---------+
"""  # noqa: E501 - the published table is this wide
LIST = """\
+------+------------------------------+-----------------------------------+
| NPU  | Cores                        | DEVFILES                          |
+------+------------------------------+-----------------------------------+
| npu1 | 0 (available), 1 (available) | npu1, npu1pe0, npu1pe1, npu1pe0-1 |
+------+------------------------------+-----------------------------------+
"""
PS = """\
+-----------+--------+------------------------------------------------------------+
| NPU       | PID    | CMD                                                        |
+-----------+--------+------------------------------------------------------------+
| npu0pe0-1 | 132529 | /usr/bin/python3 /usr/local/bin/uvicorn image_classify:app |
+-----------+--------+------------------------------------------------------------+
"""


def test_r8_r9_r12_r14_r15_published_info_table() -> None:
    assert draw(info.report((a_device(),), full=False).table) == INFO


def test_r11_r13_r14_published_full_info_table() -> None:
    assert draw(info.report((a_device(),), full=True).table) == INFO_FULL


def test_r16_r17_r18_published_list_table() -> None:
    assert draw(list_.report((a_device(),)).table) == LIST


def test_r19_r20_published_ps_table() -> None:
    assert draw(ps.report((a_process(),)).table) == PS


def test_the_recorded_card_gives_the_published_table() -> None:
    root = recorded("one-card")
    (card,) = discover(root, is_device=is_file)
    sensors = read_sensors(root, card)
    device = a_device(
        card.index,
        uuid=card.uuid,
        serial_number=card.serial_number,
        firmware_version=card.firmware_version,
        pci_bdf=card.pci_bdf,
        pci_dev=card.pci_dev,
        temperature_millicelsius=sensors.temperature_millicelsius,
        power_microwatts=sensors.power_microwatts,
        device_files=card.device_files,
    )
    assert draw(info.report((device,), full=True).table) == INFO_FULL
    assert draw(list_.report((device,)).table) == LIST


def test_info_of_several_cards_is_by_number_and_names_what_is_missing() -> None:
    hot = a_device(
        10,
        temperature_millicelsius=100_400,
        power_microwatts=39_504_000,
        pci_bdf="0000:5e:00.0",
        firmware_version="",
    )
    cold = a_device(2, temperature_millicelsius=None, power_microwatts=None)
    assert (
        draw(info.report((hot, cold), full=False).table)
        == """\
+-------+--------+----------------+-------+---------+--------------+
| NPU   | Name   | Firmware       | Temp. | Power   | PCI-BDF      |
+-------+--------+----------------+-------+---------+--------------+
| npu2  | warboy | 1.6.0, 3c10fd3 |   N/A | N/A     | 0000:44:00.0 |
+-------+--------+----------------+-------+---------+--------------+
| npu10 | warboy | N/A            | 100°C | 39.50 W | 0000:5e:00.0 |
+-------+--------+----------------+-------+---------+--------------+
"""
    )


def test_list_shows_each_state_of_a_core_and_the_file_it_is_held_through() -> None:
    fused = DeviceFile.parse("npu0pe0-1")
    devices = (
        a_device(
            1,
            cores=(
                CoreView(1, CoreState.OCCUPIED, DeviceFile.parse("npu1pe1")),
                CoreView(0, CoreState.AVAILABLE),
            ),
        ),
        a_device(0, cores=tuple(CoreView(core, CoreState.OCCUPIED, fused) for core in (0, 1))),
        a_device(2, cores=tuple(CoreView(core, CoreState.UNAVAILABLE) for core in (0, 1))),
    )
    assert (
        draw(list_.report(devices).table)
        == """\
+------+------------------------------------------------------+-----------------------------------+
| NPU  | Cores                                                | DEVFILES                          |
+------+------------------------------------------------------+-----------------------------------+
| npu0 | 0 (occupied by npu0pe0-1), 1 (occupied by npu0pe0-1) | npu0, npu0pe0, npu0pe1, npu0pe0-1 |
+------+------------------------------------------------------+-----------------------------------+
| npu1 | 0 (available), 1 (occupied by npu1pe1)               | npu1, npu1pe0, npu1pe1, npu1pe0-1 |
+------+------------------------------------------------------+-----------------------------------+
| npu2 | 0 (unavailable), 1 (unavailable)                     | npu2, npu2pe0, npu2pe1, npu2pe0-1 |
+------+------------------------------------------------------+-----------------------------------+
"""
    )


def test_r18_device_files_are_whole_card_first_then_narrower_then_lower() -> None:
    files = tuple(map(DeviceFile.parse, ("npu1pe0-1", "npu1pe1", "npu1", "npu1pe0")))
    assert list_.ListRow(a_device(device_files=files)).devfiles == [
        "npu1", "npu1pe0", "npu1pe1", "npu1pe0-1",
    ]  # fmt: skip


def test_ps_is_by_device_file_as_text() -> None:
    found = ps.report(
        (a_process("npu2pe0", 7, ""), a_process("npu10pe0", 9, "b"), a_process("npu10", 8, "a b"))
    )
    assert (
        draw(found.table)
        == """\
+----------+-----+-----+
| NPU      | PID | CMD |
+----------+-----+-----+
| npu10    | 8   | a b |
+----------+-----+-----+
| npu10pe0 | 9   | b   |
+----------+-----+-----+
| npu2pe0  | 7   | N/A |
+----------+-----+-----+
"""
    )


def test_nothing_to_show_is_a_head_alone() -> None:
    assert draw(ps.report(()).table).count("\n") == 3
    assert draw(info.report((), full=True).table).count("\n") == 3
    assert json_text(list_.report(()).document) == "[]\n"
    assert yaml_text(list_.report(()).document) == "[]\n"


INFO_JSON = (
    '[{"dev_name":"npu1","product_name":"warboy",'
    '"device_uuid":"00000000-0000-0000-0000-000000000000","device_sn":"WBYB0000000000000",'
    '"firmware":"1.6.0, 3c10fd3","temperature":"54°C","power":"0.99 W",'
    '"pci_bdf":"0000:44:00.0","pci_dev":"511:0"}]\n'
)


def test_info_json_has_every_field_with_and_without_full() -> None:
    for full in (False, True):
        assert json_text(info.report((a_device(),), full=full).document) == INFO_JSON


def test_an_emulated_card_says_so_behind_the_published_keys() -> None:
    emulated = a_device(origin=Origin.EMULATED)
    assert json_text(info.report((emulated,), full=False).document) == INFO_JSON.replace(
        '"}]', '","emulated":"true"}]'
    )


def test_info_yaml() -> None:
    devices = (a_device(0), a_device(1, origin=Origin.EMULATED, temperature_millicelsius=None))
    assert (
        yaml_text(info.report(devices, full=False).document)
        == """\
- dev_name: npu0
  product_name: warboy
  device_uuid: 00000000-0000-0000-0000-000000000000
  device_sn: WBYB0000000000000
  firmware: 1.6.0, 3c10fd3
  temperature: 54°C
  power: 0.99 W
  pci_bdf: 0000:44:00.0
  pci_dev: 511:0
- dev_name: npu1
  product_name: warboy
  device_uuid: 00000000-0000-0000-0000-000000000000
  device_sn: WBYB0000000000000
  firmware: 1.6.0, 3c10fd3
  temperature: N/A
  power: 0.99 W
  pci_bdf: 0000:44:00.0
  pci_dev: 511:0
  emulated: "true"
"""
    )


def test_list_for_programs() -> None:
    document = list_.report((a_device(0),)).document
    assert json_text(document) == (
        '[{"npu":"npu0","cores":[{"idx":0,"status":"available"},{"idx":1,"status":"available"}],'
        '"devfiles":["npu0","npu0pe0","npu0pe1","npu0pe0-1"]}]\n'
    )
    assert (
        yaml_text(document)
        == """\
- npu: npu0
  cores:
  - idx: 0
    status: available
  - idx: 1
    status: available
  devfiles:
  - npu0
  - npu0pe0
  - npu0pe1
  - npu0pe0-1
"""
    )


def test_ps_for_programs() -> None:
    document = ps.report((a_process("npu0pe0-1", 4242, "python3 app.py"),)).document
    assert json_text(document) == '[{"npu":"npu0pe0-1","pid":4242,"cmd":"python3 app.py"}]\n'
    assert yaml_text(document) == "- npu: npu0pe0-1\n  pid: 4242\n  cmd: python3 app.py\n"


def test_a_card_that_grants_nothing_says_why_beside_the_table_and_behind_the_keys() -> None:
    cores = tuple(CoreView(core, CoreState.UNAVAILABLE) for core in (0, 1))
    hot = a_device(0, cores=cores, availability=Availability.UNAVAILABLE, reason="over temperature")
    cordoned = a_device(1, availability=Availability.CORDONED)
    found = list_.report((hot, cordoned))
    assert [row[1] for row in found.table.rows] == [
        "0 (unavailable), 1 (unavailable)", "0 (available), 1 (available)",
    ]  # fmt: skip
    assert found.notes == ("npu0 is unavailable: over temperature", "npu1 is cordoned")
    assert [list(card)[3:] for card in found.document] == [["availability", "reason"]] * 2
    assert (found.document[0]["availability"], found.document[0]["reason"]) == (
        "unavailable", "over temperature",
    )  # fmt: skip


def test_ps_shows_clients_elsewhere_and_holders_without_a_lease() -> None:
    remote = ProcessView(DeviceFile.parse("npu0pe0"), 0, "train", "a1", "10.0.0.7:4711")
    foreign = ProcessView(DeviceFile.parse("npu1"), 77, "./other", "")
    found = ps.report((foreign, remote))
    assert found.table.rows == (
        ("npu0pe0", "-", "train (10.0.0.7:4711)"),
        ("npu1", "77", "./other"),
    )
    assert found.notes == ("pid 77 holds npu1 without a lease",)
    assert found.document == (
        {"npu": "npu0pe0", "pid": 0, "cmd": "train", "remote": "10.0.0.7:4711"},
        {"npu": "npu1", "pid": 77, "cmd": "./other", "foreign": "true"},
    )
