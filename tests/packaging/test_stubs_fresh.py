"""The committed stubs were made from the committed .proto files."""

import hashlib
from pathlib import Path

PROTOS = Path(__file__).resolve().parents[2] / "protos"


def test_lock_file_matches_every_proto() -> None:
    expected = {
        str(path.relative_to(PROTOS)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in PROTOS.rglob("*.proto")
    }
    lines = (PROTOS / "stubs.lock").read_text().splitlines()
    locked = {name: digest for digest, name in (line.split("  ") for line in lines)}
    assert locked == expected


def test_every_proto_has_its_stubs() -> None:
    for path in PROTOS.rglob("*.proto"):
        for suffix in ("_pb2.py", "_pb2.pyi", "_pb2_grpc.py", "_pb2_grpc.pyi"):
            assert path.with_name(path.stem + suffix).is_file(), f"{path.stem}{suffix} is missing"
