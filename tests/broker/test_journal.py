import os
from pathlib import Path

import pytest

from furiosa.broker import journal as journal_module
from furiosa.broker.journal import Journal, OtherVersion, Record
from furiosa.broker.lease import Lease, Terms
from furiosa.broker.owners import ProcessMark
from furiosa.common.names import DeviceFile
from furiosa.common.views import LeaseState

BOOT = "a boot"
OWNER = ProcessMark(42, 1000, 1001, 123456, 2**40)


def a_record(event: str, lease: str, cause: str = "") -> Record:
    files = (DeviceFile.parse("npu0pe0"), DeviceFile.parse("npu1"))
    terms = Terms(time_to_live=30.0, linger=5.0)
    made = Lease(
        id=lease,
        holder=17,
        files=files,
        state=LeaseState.GRANTED,
        tenant="vision",
        priority=-3,
        terms=terms,
        granted_at=100.5,
        expires_at=130.5,
        cause=cause,
    )
    return Record(event, made, OWNER, 2.5, 1700000000.0, "ab" * 32, 1700000001.0)  # type: ignore[arg-type]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal"


def written(path: Path, *records: Record) -> None:
    journal = Journal(path, boot=BOOT)
    journal.recover()
    for record in records:
        journal.append(record)
    journal.close()


def recovered(path: Path) -> tuple[str, ...]:
    journal = Journal(path, boot=BOOT)
    found = journal.recover()
    journal.close()
    return tuple(record.lease.id for record in found)


def test_a_record_survives_the_file(path: Path) -> None:
    record = a_record("granted", "l1", "ümlaut\n")
    written(path, record)
    journal = Journal(path, boot=BOOT)
    assert journal.recover() == (record,)
    journal.close()


def test_leases_without_an_end_are_what_a_restart_finds(path: Path) -> None:
    written(
        path,
        a_record("granted", "l1"),
        a_record("granted", "l2"),
        a_record("changed", "l1"),
        a_record("ended", "l1"),
        a_record("granted", "l3"),
        a_record("changed", "l3"),
    )
    assert recovered(path) == ("l2", "l3")
    assert recovered(path) == ("l2", "l3"), "and the next one, too"


def test_the_last_word_about_a_lease_counts(path: Path) -> None:
    written(path, a_record("granted", "l1"), a_record("changed", "l1", "it is wanted back"))
    journal = Journal(path, boot=BOOT)
    (record,) = journal.recover()
    journal.close()
    assert record.lease.cause == "it is wanted back"


def test_leases_in_the_form_of_another_version_are_neither_read_nor_lost(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("furiosa.broker.journal.VERSION", 2)
    written(path, a_record("granted", "l1"), a_record("granted", "l2"), a_record("ended", "l2"))
    monkeypatch.undo()
    before = path.read_bytes()
    with pytest.raises(OtherVersion, match=r"has version 2, expected 3, and open leases \(1\)"):
        Journal(path, boot=BOOT).recover()
    assert path.read_bytes() == before


def test_another_version_that_left_no_lease_is_followed_by_this_one(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("furiosa.broker.journal.VERSION", 2)
    written(path, a_record("granted", "l1"), a_record("changed", "l1"), a_record("ended", "l1"))
    monkeypatch.undo()
    assert recovered(path) == ()
    written(path, a_record("granted", "l2"))
    assert recovered(path) == ("l2",)


def test_leases_of_another_boot_stop_nobody_in_whatever_form(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("furiosa.broker.journal.VERSION", 2)
    written(path, a_record("granted", "l1"))
    monkeypatch.undo()
    journal = Journal(path, boot="another boot")
    assert journal.recover() == ()
    journal.close()


def test_no_lease_outlives_a_reboot(path: Path) -> None:
    written(path, a_record("granted", "l1"))
    journal = Journal(path, boot="another boot")
    assert journal.recover() == ()
    journal.close()
    assert recovered(path) == ()


@pytest.mark.parametrize("cut", [1, 5, 20])
def test_a_torn_last_record_is_left_out(path: Path, cut: int) -> None:
    written(path, a_record("granted", "l1"), a_record("granted", "l2"))
    os.truncate(path, path.stat().st_size - cut)
    assert recovered(path) == ("l1",)


def test_a_damaged_record_is_skipped_and_what_follows_counts(path: Path) -> None:
    written(path, a_record("granted", "l1"), a_record("granted", "l2"), a_record("ended", "l1"))
    lines = path.read_bytes().splitlines(keepends=True)
    lines[2] = lines[2].replace(b"npu0pe0", b"npu0pe1")
    path.write_bytes(b"".join(lines))
    assert recovered(path) == ()


def test_garbage_is_an_empty_journal(path: Path) -> None:
    path.write_bytes(os.urandom(1000))
    assert recovered(path) == ()


def test_a_full_disk_is_reported_and_leaves_no_half_record(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal(path, boot=BOOT)
    journal.recover()
    journal.append(a_record("granted", "l1"))
    real, calls = os.write, []

    def full_after_ten_bytes(fd: int, data: bytes) -> int:
        calls.append(len(data))
        if len(calls) > 1:
            raise OSError(28, "No space left on device")
        return real(fd, data[:10])

    monkeypatch.setattr(os, "write", full_after_ten_bytes)
    with pytest.raises(OSError, match="No space left"):
        journal.append(a_record("granted", "l2"))
    monkeypatch.undo()
    journal.append(a_record("granted", "l3"))
    journal.close()
    assert recovered(path) == ("l1", "l3")


def test_it_does_not_grow_for_ever(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_module, "COMPACT_AT_BYTES", 2000)
    journal = Journal(path, boot=BOOT)
    journal.recover()
    journal.append(a_record("granted", "kept"))
    for number in range(100):
        journal.append(a_record("granted", f"l{number}"))
        journal.append(a_record("ended", f"l{number}"))
    journal.close()
    assert path.stat().st_size < 5000
    assert recovered(path) == ("kept",)


def test_a_record_that_was_written_counts_though_the_file_cannot_be_compacted(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal(path, boot=BOOT)
    journal.recover()
    monkeypatch.setattr(journal_module, "COMPACT_AT_BYTES", 100)
    path.with_suffix(".new").mkdir()
    for number in range(10):
        journal.append(a_record("granted", f"l{number}"))
    path.with_suffix(".new").rmdir()
    journal.append(a_record("ended", "l0"))
    for _ in range(10):
        journal.append(a_record("changed", "l9"))
    assert b"l0" not in path.read_bytes()
    journal.close()
    assert recovered(path) == tuple(f"l{number}" for number in range(1, 10))
