"""Every table with no card, one, two and eight, in all states and with all kinds of letters, as goldens."""

from pathlib import Path

import pytest

from furiosa.cli.furiosactl import main
from furiosa.common.names import DeviceFile
from furiosa.common.views import (
    Availability,
    Container,
    CoreState,
    CoreView,
    DeviceView,
    LeaseOverview,
    OwnerView,
    ProcessView,
    UtilizationView,
)
from support import goldens
from support.shown_devices import ShownBroker, a_device, a_lease, a_process

FOLDER = Path(__file__).parent / "golden"

COMMANDS = (
    "/usr/bin/python3 /usr/local/bin/uvicorn image_classify:app",
    "python3 /srv/모델/추론.py --이름 값",
    "./run 🚀 cafe\u0301 naïve",
    "",
    "sh -c 'printf \x1b[31m\x07'",
    "./infer " + " ".join(f"--input=/data/images/{number:05}.png" for number in range(20)),
    "ｆｕｌｌ width",
    "last",
)


def held(index: int, *files: str) -> tuple[CoreView, ...]:
    """A core for each file that holds it; "" is free, "-" cannot be had."""
    states = {"": CoreState.AVAILABLE, "-": CoreState.UNAVAILABLE}
    return tuple(
        CoreView(core, states[file])
        if file in states
        else CoreView(core, CoreState.OCCUPIED, DeviceFile.parse(f"npu{index}{file}"))
        for core, file in enumerate(files)
    )


def cards(count: int) -> tuple[DeviceView, ...]:
    all_of_them = (
        a_device(0, cores=held(0, "", "")),
        a_device(1, cores=held(1, "pe0", ""), temperature_millicelsius=7_400, power_microwatts=0),
        a_device(2, cores=held(2, "pe0-1", "pe0-1"), pci_bdf="0001:ff:1f.7", pci_dev="511:123456"),
        a_device(3, cores=held(3, "", ""), firmware_version="10.20.30, abcdef0"),
        a_device(4, cores=held(4, "pe0", "pe1"), temperature_millicelsius=104_600),
        a_device(
            5,
            cores=held(5, "-", "-"),
            availability=Availability.UNAVAILABLE,
            reason="over temperature",
            power_microwatts=12_345_678,
        ),
        a_device(
            6,
            cores=held(6, "-", "pe1"),
            availability=Availability.CORDONED,
            reason="새 펌웨어",
        ),
        a_device(
            17,
            cores=held(17, "", ""),
            uuid="",
            serial_number="",
            firmware_version="",
            pci_bdf="",
            pci_dev="",
            temperature_millicelsius=None,
            power_microwatts=None,
        ),
    )
    return all_of_them[:count]


def held_files(count: int) -> list[DeviceFile]:
    return sorted(
        {
            core.device_file
            for card in cards(count)
            for core in card.cores
            if core.device_file is not None
        },
        key=str,
    )


def running(count: int) -> tuple[ProcessView, ...]:
    """A process for each file that is held, then one without a lease and one elsewhere."""
    found = [
        a_process(str(file), 10**number, COMMANDS[number])
        for number, file in enumerate(held_files(count))
    ]
    if count == 8:
        file = DeviceFile.parse("npu3")
        found.append(ProcessView(file, 77, COMMANDS[5], lease_id=""))
        found.append(ProcessView(file, 0, COMMANDS[6], lease_id="far", remote="10.0.0.7:51234"))
    return tuple(found)


OWNERS = (
    None,
    Container("docker", "0123456789abcdef" * 4, ""),
    Container("containerd", "fedcba9876543210" * 4, "8d9a3c52-5f11-4a3e-9a55-2f7f35b1d5b7"),
)


def leases(count: int) -> tuple[object, ...]:
    return tuple(
        a_lease(
            id,
            tenant=("uid:1000", "비전", "")[number],
            owner=OwnerView(1, 1000, 1000, 77, "x", container=OWNERS[number]),
        )
        for number, id in enumerate(("l", "m", "far"))
    )


def used(count: int) -> tuple[UtilizationView, ...]:
    """With percentages at their limits, and stamps of each length."""
    figures = ((0.1906, 1.0, 0.0), (0.5109, 0.9305, 0.0695), (1.0, 1 / 3, 2 / 3), (0.0, 0.0, 0.0))
    stamps = (
        1679391956_699483936,
        1679391956_906443880,
        1679391957_000000000,
        1679391957_100000000,
    )
    return tuple(
        UtilizationView(file, 10**9, *figures[number], 10 ** (2 * number), command, stamps[number])
        for number, (file, command) in enumerate(zip(held_files(count)[:4], COMMANDS, strict=False))
    )


def broker(count: int) -> ShownBroker:
    overview = LeaseOverview(leases(count), (), 1)  # type: ignore[arg-type]  # LeaseViews
    return ShownBroker(cards(count), running(count), states=(overview,), used=used(count))


@pytest.mark.parametrize("count", [0, 1, 2, 8])
@pytest.mark.parametrize(
    "command",
    [
        *("info", "info --full", "list", "ps", "ps --wide", "top --count 2"),
        *("list --format json", "ps --wide --format yaml", "top --count 1 --format json"),
    ],
)
def test_r15_r34_tables_are_as_they_were(
    command: str, count: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command.split(), connect=broker(count).connect) == 0
    out, err = capsys.readouterr()
    name = f"{command.replace(' --', '-').replace(' ', '-')}-{count}.txt"
    goldens.same(FOLDER / name, f"{out}{'=' * 8} stderr {'=' * 8}\n{err}")
