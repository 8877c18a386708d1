"""The quick way of list, info and ps: the same output as the whole command line, or nothing at all."""

import os
import pty
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from furiosa.cli import quick
from furiosa.cli.furiosactl import main
from furiosa.cli.quick import address, handoff, messages, protobuf
from furiosa.client import embedded
from furiosa.common import wire
from furiosa.common.views import (
    Architecture,
    Availability,
    CoreState,
    DeviceView,
    Origin,
    ProcessView,
)
from furiosa.proto.broker.v1 import devices_pb2, handoff_pb2, types_pb2
from support.fake_broker import FakeBroker, fake_broker, replies
from support.shown_devices import ShownBroker, a_device, a_process

Output = pytest.CaptureFixture[str]
COMMANDS = (["list"], ["info"], ["info", "--full"], ["ps"])


def shown(*devices: DeviceView, processes: tuple[ProcessView, ...] = ()) -> dict[str, Any]:
    """What a fake broker answers."""
    return {
        "Devices_List": replies(
            devices_pb2.ListDevicesResponse(devices=map(wire.device_to_wire, devices))
        ),
        "Devices_Processes": replies(
            devices_pb2.ListProcessesResponse(processes=map(wire.process_to_wire, processes))
        ),
    }


DEVICES = (
    a_device(1, temperature_millicelsius=-3_000, power_microwatts=0),
    a_device(0, temperature_millicelsius=None, power_microwatts=None, uuid="", pci_bdf=""),
    a_device(300, availability=Availability.CORDONED, reason="새 펌웨어 " * 40),
)
PROCESSES = (
    a_process("npu10pe0", 2**31, "x" * 5000),
    a_process("npu1", 1, "a\x1b[31m 추론"),
    ProcessView(DEVICES[0].device_files[0], 77, "", lease_id=""),
    ProcessView(DEVICES[0].device_files[0], 0, "far", lease_id="l", remote="10.0.0.7:1"),
)


@pytest.fixture
def broker(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeBroker]:
    with fake_broker(**shown(*DEVICES, processes=PROCESSES)) as made:
        monkeypatch.setenv("FURIOSA_BROKER", str(made.address))
        yield made


@pytest.mark.parametrize("argv", COMMANDS, ids=" ".join)
def test_it_is_what_the_whole_command_line_prints(
    argv: list[str], broker: FakeBroker, capsys: Output
) -> None:
    assert quick.run(argv) == 0
    ours = capsys.readouterr()
    whole = ShownBroker(DEVICES, PROCESSES, origin=Origin.EMULATED)
    assert main(argv, connect=whole.connect) == 0
    theirs = capsys.readouterr()
    assert ours.out == theirs.out
    assert ours.err in (
        theirs.err,
        theirs.err.replace("furiosactl: these cards are emulated\n", ""),
    )
    assert main(argv) == 0  # and this is how it is reached
    assert capsys.readouterr() == ours


@pytest.mark.parametrize(
    "argv",
    [
        *([], ["version"], ["list", "-w"], ["list", "--format", "json"], ["info", "--ful"]),
        *(["--broker", "unix:/x", "list"], ["ps", "--wide"], ["ps", "x"], ["top"]),
    ],
)
def test_everything_else_is_left_alone(argv: list[str], broker: FakeBroker, capsys: Output) -> None:
    assert quick.run(argv) is None
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    "text",
    ["10.0.0.1:5001", "relative", "unix:", "unix:////x", "unix:/nowhere", "unix:///nowhere"],
)
def test_another_address_is_left_alone(text: str, capsys: Output) -> None:
    assert quick.run(["list"], {"FURIOSA_BROKER": text}) is None
    assert capsys.readouterr() == ("", "")


def test_without_an_address_it_is_the_systems_broker_or_ones_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(address, "SYSTEM", __file__)
    assert address.path_of({}) == __file__
    monkeypatch.setattr(address, "SYSTEM", "/no/such/broker.sock")
    monkeypatch.setattr(address, "_REAL_CARDS", "/no/such/cards")
    tmp_path.chmod(0o700)
    environ = {"XDG_RUNTIME_DIR": str(tmp_path)}
    assert address.path_of(environ) is None  # there is no folder yet
    home = embedded.home(environ)
    assert address.path_of(environ) == home.address.path
    assert address.path_of(environ | {"FURIOSA_BROKER": "unix:/x"}) == "/x"
    monkeypatch.setattr(address, "_REAL_CARDS", __file__)
    assert address.path_of(environ) is None
    monkeypatch.setattr(address, "_REAL_CARDS", "/no/such/cards")
    Path(home.folder).chmod(0o755)
    assert address.path_of(environ) is None  # it could be somebody else's
    assert address.path_of({"TMPDIR": str(tmp_path)}) is None


def test_an_answer_that_is_a_failure_is_left_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: Output
) -> None:
    with fake_broker() as broker:  # knows no method
        monkeypatch.setenv("FURIOSA_BROKER", str(broker.address))
        assert quick.run(["list"]) is None
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"\x01\0\0\0\0",
        b"\xff\xff\xff\xff\0",
        b"\x02\0\0\0\0\x1a\0" + b"\x03\0\0\0\0\x2a\x7f\0",
        b"\x02\0\0\0\0\x1a\0" + b"\x02\0\0\0\0\x2a\0",
        b"\x02\0\0\0\0\x0f\0" * 2,
    ],
)
def test_a_broker_that_breaks_the_rules_is_left_alone(said: bytes, tmp_path: Path) -> None:
    path = tmp_path / "b.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(f"{path}.handoff")
        listener.listen()
        client = subprocess.Popen(
            [
                *(sys.executable, "-c"),
                f"from furiosa.cli.quick import handoff; print(handoff.ask({str(path)!r}, 'x'))",
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        connection, _ = listener.accept()
        with connection:
            connection.sendall(said)
            connection.shutdown(socket.SHUT_WR)
            assert client.communicate() == ("None\n", "")


def test_it_imports_nothing_that_takes_long(broker: FakeBroker) -> None:
    code = (
        "import sys; from furiosa.cli.furiosactl import main; main(['list']);"
        "slow = {'argparse', 'dataclasses', 'typing', 're', 'google.protobuf', 'contextlib', 'json'};"
        "print(*sorted(slow & sys.modules.keys()), file=sys.stderr)"
    )
    # -S: what the interpreter's own start imports is not counted
    folders = ":".join(sys.path)
    done = subprocess.run(
        [sys.executable, "-S", "-c", code],
        env={**os.environ, "PYTHONPATH": folders},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "npu300" in done.stdout
    assert done.stderr.splitlines()[-1] == ""


def test_a_reader_that_left_and_a_full_disk_end_it_as_they_end_the_whole_one(
    broker: FakeBroker,
) -> None:
    line = [sys.executable, "-m", "furiosa.cli.furiosactl_of_tests", "list"]
    line = [
        sys.executable,
        "-c",
        "import sys; from furiosa.cli.furiosactl import main; sys.exit(main(['list']))",
    ]
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "wb") as pipe, open("/dev/full", "wb") as full:
        gone = subprocess.run(line, stdout=pipe, stderr=subprocess.PIPE, text=True, check=False)
        filled = subprocess.run(line, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert gone.returncode == 141
    assert filled.returncode == 1
    assert filled.stderr.endswith("furiosactl: [Errno 28] No space left on device\n")
    assert "Traceback" not in gone.stderr + filled.stderr


def test_titles_are_bold_on_a_terminal(broker: FakeBroker) -> None:
    line = [sys.executable, "-c", "from furiosa.cli.furiosactl import main; main(['list'])"]
    ours, theirs = pty.openpty()
    try:
        subprocess.run(line, env={**os.environ, "TERM": "xterm"}, stdout=theirs, check=True)
        assert b"\x1b[1mNPU\x1b[0m" in os.read(ours, 65536)
    finally:
        os.close(ours)
        os.close(theirs)


# messages


@pytest.mark.parametrize("availability", Availability)
@pytest.mark.parametrize("origin", Origin)
def test_a_device_has_the_attributes_of_its_view(
    origin: Origin, availability: Availability
) -> None:
    view = a_device(7, origin=origin, availability=availability, reason="r")
    (read,) = messages.devices(
        devices_pb2.ListDevicesResponse(devices=[wire.device_to_wire(view)]).SerializeToString()
    )
    for name in (
        *("index", "name", "uuid", "serial_number", "firmware_version", "pci_bdf", "pci_dev"),
        *("temperature_millicelsius", "power_microwatts", "reason"),
    ):
        assert getattr(read, name) == getattr(view, name)
    for name in ("architecture", "origin", "availability"):
        assert getattr(read, name).value == getattr(view, name).value
    assert [str(file) for file in read.device_files] == [str(file) for file in view.device_files]
    assert (origin is Origin.EMULATED) == (read.origin.value == "emulated")


def test_every_member_of_an_enum_has_its_name() -> None:
    assert len(Architecture) == len(types_pb2.Architecture.keys()) - 1 == 1
    assert {*messages._ORIGINS.values()} == {member.value for member in Origin}
    assert {*messages._AVAILABILITIES.values()} == {member.value for member in Availability}
    assert {*messages._STATES.values()} == {member.value for member in CoreState}
    assert types_pb2.DeviceOrigin.Value("DEVICE_ORIGIN_EMULATED") == messages.EMULATED


@pytest.mark.parametrize("state", CoreState)
def test_a_core_is_told_as_its_view_tells_it(state: CoreState) -> None:
    file = a_device(0).device_files[-1] if state is CoreState.OCCUPIED else None
    view = a_device(
        0, cores=tuple(type(core)(core.core, state, file) for core in a_device(0).cores)
    )
    (read,) = messages.devices(
        devices_pb2.ListDevicesResponse(devices=[wire.device_to_wire(view)]).SerializeToString()
    )
    assert [(core.core, str(core)) for core in read.cores] == [
        (core.core, str(core)) for core in view.cores
    ]


def test_files_are_in_the_order_of_those_of_a_card() -> None:
    names = ["npu1", "npu1pe0", "npu1pe1", "npu1pe10", "npu1pe0-1", "npu1pe2-3", "npu1pe0-3"]
    assert sorted(map(messages.File, reversed(names)), key=lambda file: file.sort_key) == names


def test_an_unknown_member_is_for_the_whole_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    device = wire.device_to_wire(a_device(0))
    device.availability = 9  # type: ignore[assignment]
    response = devices_pb2.ListDevicesResponse(devices=[device]).SerializeToString()
    monkeypatch.setattr(handoff, "ask", lambda path, method: (1, response))
    assert quick.run(["list"], {"FURIOSA_BROKER": "/x"}) is None


# protobuf

_texts = st.text(max_size=200)


@given(st.integers(0, 2**32 - 1), _texts, st.integers(-(2**31), 2**31 - 1), st.lists(_texts))
def test_it_reads_what_protobuf_writes(
    index: int, reason: str, temperature: int, files: list[str]
) -> None:
    device = types_pb2.Device(
        index=index, reason=reason, temperature_millicelsius=temperature, device_files=files
    )
    found = list(protobuf.fields(device.SerializeToString()))
    numbers = dict(found)
    assert numbers.get(1, 0) == index
    assert numbers.get(17, b"") == reason.encode()
    assert protobuf.signed(numbers[12]) == temperature  # type: ignore[arg-type]
    assert [value for number, value in found if number == 15] == [text.encode() for text in files]


@given(st.floats(allow_nan=False), st.binary(max_size=50))
def test_fields_of_fixed_size_are_skipped(fraction: float, payload: bytes) -> None:
    use = types_pb2.Utilization(npu_fraction=fraction, pid=7)
    assert dict(protobuf.fields(use.SerializeToString())) == {6: 7}
    frame = handoff_pb2.Reply(response=payload)
    assert dict(protobuf.fields(frame.SerializeToString())).get(1, b"") == payload


@given(st.binary(max_size=100))
def test_any_bytes_are_a_message_or_a_value_error(data: bytes) -> None:
    read: Callable[[bytes], object]
    for read in (messages.devices, messages.processes):
        try:
            read(data)
        except (ValueError, KeyError):
            continue
