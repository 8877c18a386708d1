# /// script
# requires-python = ">=3.11"
# dependencies = ["grpcio-tools==1.71.2", "mypy-protobuf==3.7.0", "setuptools<81"]
# ///
"""Regenerate the protobuf stubs beside each .proto, or compare them with `--check`.

The generator is pinned low on purpose: generated code refuses any protobuf runtime older than its
generator, so this version is the lower bound of everybody who installs the package. It conflicts with
the protobuf of the development environment; run it in one of its own (`make protos`).
"""

import argparse
import hashlib
import os
import subprocess
import sys
import tempfile
from importlib.resources import files
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent / "protos"
LOCK = ROOT / "stubs.lock"
SUFFIXES = ("_pb2.py", "_pb2.pyi", "_pb2_grpc.py", "_pb2_grpc.pyi")


def sources() -> list[Path]:
    return sorted(path.relative_to(ROOT) for path in ROOT.rglob("*.proto"))


def lock_text() -> str:
    lines = (f"{hashlib.sha256((ROOT / s).read_bytes()).hexdigest()}  {s}\n" for s in sources())
    return "".join(lines)


def generate(out: Path) -> None:
    include = files("grpc_tools") / "_proto"
    command = [
        *(sys.executable, "-m", "grpc_tools.protoc", f"-I{ROOT}", f"-I{include}"),
        *(f"--python_out={out}", f"--mypy_out=quiet:{out}"),
        *(f"--grpc_python_out={out}", f"--mypy_grpc_out=quiet:{out}"),
        *map(str, sources()),
    ]
    # the mypy plugins are programs beside the interpreter, which need not be on PATH
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", "")))
    subprocess.run(command, check=True, env={**os.environ, "PATH": path})


def stubs(out: Path) -> dict[Path, bytes]:
    found = (p for p in sorted(out.rglob("*")) if p.name.endswith(SUFFIXES))
    return {path.relative_to(out): path.read_bytes() for path in found}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 when stale")
    check = parser.parse_args().check
    with tempfile.TemporaryDirectory() as folder:
        generate(Path(folder))
        fresh = stubs(Path(folder))
    if check:
        committed = stubs(ROOT)
        stale = [str(p) for p in sorted(fresh | committed) if fresh.get(p) != committed.get(p)]
        if stale or LOCK.read_text() != lock_text():
            print("stale stubs, run `make protos`:", *stale, sep="\n  ", file=sys.stderr)
            return 1
        return 0
    for path in stubs(ROOT).keys() - fresh.keys():
        (ROOT / path).unlink()
    for path, content in fresh.items():
        (ROOT / path).write_bytes(content)
    LOCK.write_text(lock_text())
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
