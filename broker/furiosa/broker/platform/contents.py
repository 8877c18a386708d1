"""What the files of a virtual card say: path below the platform's folder -> text. PURE.

Source: devices reference 3 (dev), 7 (sysfs), 9 (hwmon labels and layout).
"""

from collections.abc import Mapping
from typing import Final

from furiosa.broker.platform import identity as cards
from furiosa.broker.platform.identity import Identity
from furiosa.broker.platform.thermal import Climate
from furiosa.common.names import ALL, CoreRange, DeviceFile

CORES: Final = 2
DMA_CHANNELS: Final = 4
HEARTBEAT: Final = "sys/devices/virtual/npu_mgmt/heartbeat"

_ATR_ERRORS: Final = (
    "AXI Post Error",
    "AXI Fetch Error",
    "AXI Discard Error",
    "AXI Doorbell done",
    "PCIe Post Error",
    "PCIe Fetch Error",
    "PCIe Discard Error",
    "PCIe Doorbell done",
    "Device Error",
)
_CLOCKS: Final = {
    "ne tensor (MHz)": 2000,
    "ne memory (MHz)": 1000,
    "ne operation (MHz)": 1000,
    "dram (MT/s)": 4266,
}

# A sensor is a place on the card. A place is as far above the air around it as its share of what the
# warmest one is; a supply carries its share of the card's power.
_AIR_CELSIUS: Final = 25.0
_TEMPERATURES: Final = {
    "AMBIENT": 0.2,
    "Average": 0.9,
    "LPDDR4": 0.8,
    "NE": 0.95,
    "NE_PE0": 0.95,
    "NE_PE1": 0.95,
    "NE_TOP": 0.9,
    "PCIE": 0.7,
    "Peak": 1.0,
    "U74M": 0.85,
}
_POWERS: Final = {
    "NE 12V PWR": 0.75,
    "NE Core RMS PWR": 0.55,
    "NE PWR": 0.7,
    "PCI 12V PWR": 0.95,
    "PCI 3.3V PWR": 0.05,
    "PCI Total RMS PWR": 1.0,
}
_VOLTAGES_MILLIVOLT: Final = {"NE Core 48V Volt": 48000, "NE Core Volt": 800}
_CURRENTS: Final = {  # power it belongs to, volts
    "NE 12V Curr": ("NE 12V PWR", 12.0),
    "NE Current": ("NE Core RMS PWR", 0.8),
    "PCI 12V Curr": ("PCI 12V PWR", 12.0),
    "PCI 3.3V Curr": ("PCI 3.3V PWR", 3.3),
}


def device_files(index: int) -> tuple[DeviceFile, ...]:
    ranges = (ALL, *(CoreRange(core, core) for core in range(CORES)), CoreRange(0, CORES - 1))
    return tuple(DeviceFile(index, cores) for cores in ranges)


def node_names(index: int) -> tuple[str, ...]:
    """Everything the card has in `dev`."""
    return (
        *map(str, device_files(index)),
        f"npu{index}_mgmt",
        *(f"npu{index}ch{channel}" for channel in range(DMA_CHANNELS)),
    )


def device_folder(index: int) -> str:
    return f"sys/devices/virtual/npu_mgmt/npu{index}_mgmt"


def class_folder(name: str) -> str:
    return f"sys/class/npu_mgmt/{name}"


def heartbeat_link(index: int) -> tuple[str, str]:
    """All cards have run equally long: each has a link to the one file that says it."""
    return f"{device_folder(index)}/heartbeat", f"../{HEARTBEAT.rpartition('/')[2]}"


def hwmon_folder(identity: Identity) -> str:
    return f"sys/bus/pci/devices/{identity.pci_bdf}/hwmon/hwmon0"


def constant_files(index: int, identity: Identity) -> Mapping[str, str]:
    """Files whose text nothing changes."""
    files = {
        "busname": identity.pci_bdf,
        "dev": identity.pci_dev,
        "device_sn": identity.serial_number,
        "device_type": cards.PRODUCT,
        "device_uuid": identity.uuid,
        "fw_version": cards.FIRMWARE,
        "ne_clk_freq_info": "\n".join(f"{name}: {value}" for name, value in _CLOCKS.items()),
        "platform_type": "FuriosaAI",
        "soc_rev": cards.SOC_REVISION,
        "soc_uid": identity.soc_uid,
        "version": cards.DRIVER,
        "performance_mode": "5 (FULL 2)",
        "performance_level": "15",
        "device_led": "0",
        "ne_clock": "1",
        "ne_dtm_policy": "0",
        # there on hardware too, in a format nobody has published; we read none of them
        "device_state": "1",
        "cur_pe_ids": f"0-{CORES - 1}",
        "evb_rev": "0",
        "reboot_reason": "0",
    }
    texts = {f"{device_folder(index)}/{name}": f"{text}\n" for name, text in files.items()}
    hwmon = hwmon_folder(identity)
    texts[f"{hwmon}/name"] = f"npu{index}\n"
    for prefix, first, labels in (
        ("curr", 1, _CURRENTS),
        ("in", 0, _VOLTAGES_MILLIVOLT),  # hwmon counts voltages from 0, everything else from 1
        ("power", 1, _POWERS),
        ("temp", 1, _TEMPERATURES),
    ):
        for number, label in enumerate(labels, first):
            texts[f"{hwmon}/{prefix}{number}_label"] = f"{label}\n"
    for number, millivolt in enumerate(_VOLTAGES_MILLIVOLT.values()):
        texts[f"{hwmon}/in{number}_input"] = f"{millivolt}\n"
    texts[f"sys/bus/pci/devices/{identity.pci_bdf}/numa_node"] = "-1\n"
    return texts


def alive_file(index: int, alive: bool) -> tuple[str, str]:
    return f"{device_folder(index)}/alive", f"{int(alive)}\n"


def error_file(index: int, counts: Mapping[str, int]) -> tuple[str, str]:
    """`counts` by the names of the lines; those that are not there are 0."""
    lines = (f"{name}: {counts.get(name, 0)}\n" for name in _ATR_ERRORS)
    return f"{device_folder(index)}/atr_error", "".join(lines)


def sensor_files(identity: Identity, climate: Climate) -> Mapping[str, str]:
    """The sensors that follow the load."""
    hwmon = hwmon_folder(identity)
    texts = {}
    for number, share in enumerate(_TEMPERATURES.values(), 1):
        celsius = _AIR_CELSIUS + share * (climate.celsius - _AIR_CELSIUS)
        texts[f"{hwmon}/temp{number}_input"] = f"{round(celsius * 1e3)}\n"
    for number, share in enumerate(_POWERS.values(), 1):
        texts[f"{hwmon}/power{number}_average"] = f"{round(share * climate.watts * 1e6)}\n"
    for number, (supply, volts) in enumerate(_CURRENTS.values(), 1):
        milliampere = round(_POWERS[supply] * climate.watts / volts * 1e3)
        texts[f"{hwmon}/curr{number}_input"] = f"{milliampere}\n"
    return texts


def perf_regs_file(file: DeviceFile) -> str:
    return f"{class_folder(str(file))}/perf_regs"
