import re
import socket
from pathlib import Path

from furiosa.broker.platform.identity import identity, machine_id


def test_a_card_keeps_its_identity() -> None:
    assert identity("m", 0) == identity("m", 0)


def test_no_two_cards_share_anything_that_names_one() -> None:
    cards = [identity(machine, index) for machine in ("a", "b") for index in range(256)]
    for field in ("uuid", "serial_number", "soc_uid"):
        assert len({getattr(card, field) for card in cards}) == 512
    one_machine = cards[:256]
    assert len({card.pci_bdf for card in one_machine}) == 256
    assert len({card.pci_dev for card in one_machine}) == 256


def test_values_have_the_published_form() -> None:
    for index in range(256):
        card = identity("machine", index)
        assert re.fullmatch(
            r"[0-9A-F]{8}-[0-9A-F]{4}-8[0-9A-F]{3}-[89AB][0-9A-F]{3}-[0-9A-F]{12}", card.uuid
        )
        assert re.fullmatch(r"WBYB\d{13}", card.serial_number)
        assert re.fullmatch(r"[0-9a-f]{4}:[0-9a-f]{2}:00\.0", card.pci_bdf)


def test_addresses_count_up() -> None:
    assert identity("m", 0).pci_bdf == "0000:44:00.0"
    assert identity("m", 1).pci_bdf == "0000:45:00.0"
    assert identity("m", 200).pci_bdf == "0001:0c:00.0"
    assert identity("m", 3).pci_dev == "511:3"


def test_a_machine_without_an_id_goes_by_its_name(tmp_path: Path) -> None:
    assert machine_id(tmp_path) == socket.gethostname()
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/machine-id").write_text("\n")
    assert machine_id(tmp_path) == socket.gethostname()
    (tmp_path / "etc/machine-id").write_text("0123456789abcdef\n")
    assert machine_id(tmp_path) == "0123456789abcdef"
