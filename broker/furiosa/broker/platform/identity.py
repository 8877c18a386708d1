"""Who a virtual card is: stable on one machine, different on another.

Source: design 8; formats of devices reference 7.
"""

import hashlib
import socket
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Final

PRODUCT: Final = "Warboy"
SOC_REVISION: Final = "B0"
FIRMWARE: Final = "1.6.0, 3c10fd3"
DRIVER: Final = "1.0.0, 0000000"  # of the virtual platform; it was built from no commit
_MAJOR: Final = 511
_FIRST_BUS: Final = 0x44


@dataclass(frozen=True, slots=True)
class Identity:
    uuid: str
    serial_number: str
    soc_uid: str
    pci_bdf: str
    pci_dev: str


def identity(machine: str, index: int) -> Identity:
    """Of card `index` on `machine`. Two cards of one machine differ in every field."""
    # machine-id(5) asks not to show the machine id itself but a hash made for one purpose
    digest = hashlib.sha256(f"furiosa virtual card\0{machine}\0{index}".encode()).digest()
    bits = bytearray(digest[:16])
    bits[6] = bits[6] & 0x0F | 0x80  # RFC 9562: version 8, made from a hash of our choice,
    bits[8] = bits[8] & 0x3F | 0x80  # in the usual variant
    domain, bus = divmod(_FIRST_BUS + index, 256)
    return Identity(
        uuid=str(uuid.UUID(bytes=bytes(bits))).upper(),
        serial_number=f"WBYB{int.from_bytes(digest[16:24]) % 10**13:013}",
        soc_uid=digest[24:].hex(),
        pci_bdf=f"{domain:04x}:{bus:02x}:00.0",
        pci_dev=f"{_MAJOR}:{index}",
    )


def machine_id(root: Path = Path("/")) -> str:
    """The machine's id, or its name where it has none (small containers)."""
    try:
        text = (root / "etc" / "machine-id").read_text("ascii").strip()
    except (OSError, UnicodeDecodeError):
        text = ""
    return text or socket.gethostname()
