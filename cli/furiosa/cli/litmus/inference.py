"""The last step: the program runs once on an NPU. Source: command reference 4.4."""

import asyncio
import os
import time
from pathlib import Path
from typing import Final, TextIO

from furiosa import enf as programs
from furiosa.cli.litmus.bundle import Bundle
from furiosa.compiler import PrintProgress
from furiosa.enf.program import TARGETS
from furiosa.runtime.bench import BenchConfig, BenchRunner

_VARIABLES: Final = {"FURIOSA_DEVICES", "NPU_DEVNAME"}  # who sets one knows which devices


def once(enf: bytes, target: str, folder: Path, err: TextIO, bundle: Bundle | None) -> str:
    """The report; with a bundle, its trace is of this run. `folder`: for files, which are left there.

    Raises: FuriosaRuntimeError; OSError.
    """
    program, trace = folder / "output.enf", folder / "trace.json"
    program.write_bytes(enf)
    began = time.perf_counter()
    programs.read(enf)
    PrintProgress(err).finished(time.perf_counter() - began)
    config = BenchConfig(
        program,
        trace_output=None if bundle is None else trace,
        devices=f"warboy({TARGETS[target]})*1" if _VARIABLES.isdisjoint(os.environ) else None,
    )
    try:
        return asyncio.run(BenchRunner(config, "L").run()).text()
    finally:
        if bundle is not None and trace.exists():
            bundle.trace = trace.read_bytes()
