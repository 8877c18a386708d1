"""The report of a run: for programs, for people, and a line for each figure while it is made."""

import json
import os
import platform
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

from benchmarks.figures import Figure, Found, Skipped


def machine() -> dict[str, object]:
    names = ("grpcio", "numpy", "onnxruntime", "protobuf")
    return {
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 2),  # of others, when taken before the measurements
        "journal on": _file_system(Path(tempfile.gettempdir())),
        "kernel": platform.release(),
        "python": platform.python_version(),
        **{name: version(name) for name in names},
    }


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _file_system(folder: Path) -> str:
    command = ["stat", "--file-system", "--format=%T", str(folder)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def line(found: Found) -> str:
    if isinstance(found, Skipped):
        return f"{found.name:40} skipped: {found.reason}"
    return (
        f"{found.name:40} {found.ratio:8.3f}x  {found.ours:11.1f} against {found.theirs:11.1f} "
        f"{found.unit:4} target {_target(found)}"
    )


def write(facts: dict[str, object], found: Sequence[Found], folder: Path) -> None:
    """report.json for programs, report.md for people."""
    figures = [item for item in found if isinstance(item, Figure)]
    skipped = [item for item in found if isinstance(item, Skipped)]
    report = {
        "machine": facts,
        "figures": [asdict(figure) for figure in figures],
        "skipped": [asdict(item) for item in skipped],
    }
    (folder / "report.json").write_text(json.dumps(report, indent=2) + "\n")
    (folder / "report.md").write_text(
        "# Benchmarks\n\n"
        f"{', '.join(f'{key} {value}' for key, value in facts.items())}\n\n"
        "What is measured and how to read it: docs/benchmarks.md. Medians unless the name or the "
        "conditions say otherwise, with the 10th and 90th percentile.\n\n"
        "| figure | ratio | target | ours | theirs | unit | against | conditions |\n"
        "|---|---|---|---|---|---|---|---|\n"
        + "".join(map(_row, figures))
        + "".join(f"\nNot measured: {item.name}: {item.reason}.\n" for item in skipped)
    )


def _row(figure: Figure) -> str:
    low, high, their_low, their_high = (f"{edge:,.1f}" for edge in figure.spread)
    return (
        f"| {figure.name} | {figure.ratio:.3g} | {_target(figure)} "
        f"| {figure.ours:,.1f} ({low} to {high}) | {figure.theirs:,.1f} ({their_low} to {their_high}) "
        f"| {figure.unit} | {figure.against} | {figure.conditions} |\n"
    )


def _target(figure: Figure) -> str:
    if figure.target is None:
        return "-"
    verdict = "met" if figure.met else "MISSED"
    return f"{figure.bound} {figure.target:g}, {verdict}"
