"""The steps, in order. Source: command reference 4 (texts, streams), 4.2 (failures)."""

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

import yaml

from furiosa.cli.exitcodes import ExitCode
from furiosa.cli.litmus.bundle import Bundle
from furiosa.cli.litmus.compilation import Compilation
from furiosa.cli.litmus.facts import all_facts
from furiosa.cli.terminal import Terminal
from furiosa.common.build import VERSION
from furiosa.quantizer import trial

_T = TypeVar("_T")
_BOTH: Final = "Step 1 & Step 2"
_FAILED: Final = "Failed\n"
_NOT_ONNX: Final = "ERROR: The input file should be a valid ONNX file"


class Failed(Exception):
    """A step has; `str()` is why, in one line. Its lines are written."""


@dataclass(frozen=True, slots=True)
class Request:
    """`dump`: prefix of the archive. `target`: see `furiosa.compiler.CompilerOptions`."""

    model: Path
    dump: Path | None
    is_quantized: bool
    target: str
    is_verbose: bool


def validate(request: Request, terminal: Terminal) -> ExitCode:
    """The steps' lines go to stdout, all else to stderr."""
    for line in _versions():
        terminal.say(line)
    if not request.model.exists():
        terminal.say(f"ERROR: {request.model} does not exist")  # and what follows fails
    try:
        with _bundled(request) as bundle:
            return _validate(request, terminal, bundle)
    except OSError as exc:
        terminal.say(f"ERROR: {_sentence(exc)}")
        return ExitCode.FAILURE


def _validate(request: Request, terminal: Terminal, bundle: Bundle | None) -> ExitCode:
    try:
        _Validation(request, terminal, bundle).run()
    except Failed as exc:
        terminal.say(f"ERROR: {exc}")
        return ExitCode.FAILURE
    return ExitCode.OK


def _versions() -> Iterator[str]:
    number, revision = VERSION.version, VERSION.revision
    yield f"libfuriosa_hal.so --- v{number}, built @ {VERSION.hash[:7]}"
    yield (
        "INFO:furiosa.common.native:loaded native library "
        f"libfuriosa_compiler.so.{number} ({number}-{VERSION.stage} {revision})"
    )
    yield (
        f"furiosa-quantizer {number} (rev. {revision}) furiosa-litmus {number} (rev. {revision})"
    )


@contextlib.contextmanager
def _bundled(request: Request) -> Iterator[Bundle | None]:
    """Written however the body ends. Raises: OSError."""
    if request.dump is None:
        yield None
        return
    folder = request.dump.parent
    if not os.access(folder, os.W_OK | os.X_OK):  # said before the work, not after it
        raise PermissionError(f"{folder} is no folder that can be written to")
    meta = yaml.safe_dump(all_facts(request.model), sort_keys=False)
    bundle = Bundle(meta)
    try:
        yield bundle
    finally:
        bundle.write(request.dump)


class _Validation:
    def __init__(self, request: Request, terminal: Terminal, bundle: Bundle | None) -> None:
        self._request = request
        self._terminal = terminal
        self._bundle = bundle

    def run(self) -> None:
        """Raises: Failed."""
        model = self._given() if self._request.is_quantized else self._quantized()
        self._infer(self._compiled(model))

    def _given(self) -> bytes:
        self._write("[Step 1] Skip model loading and optimization")
        self._write("[Step 2] Skip model quantization")
        self._write(f"[{_BOTH}] Load quantized model ...")
        return self._attempt(_BOTH, lambda: trial.load(self._request.model).SerializeToString())

    def _quantized(self) -> bytes:
        self._write("[Step 1] Checking if the model can be loaded and optimized ...")
        model = self._attempt("Step 1", lambda: trial.optimized(self._request.model))
        self._write("[Step 1] Passed")
        self._write("[Step 2] Checking if the model can be quantized ...")
        quantized = self._attempt("Step 2", lambda: trial.quantized(model))
        self._write("[Step 2] Passed")
        return quantized

    def _compiled(self, model: bytes) -> bytes:
        request = self._request
        self._write(
            "[Step 3] Checking if the model can be compiled for the NPU family "
            f"[{request.target}] ..."
        )
        compilation = Compilation(self._terminal.err, self._bundle)
        enf = self._attempt(
            "Step 3",
            lambda: compilation.run(model, request.target, is_verbose=request.is_verbose),
        )
        self._write("[Step 3] Passed")
        return enf

    def _infer(self, enf: bytes) -> None:
        try:
            from furiosa.cli.litmus import inference
        except ImportError:
            self._terminal.say("[Step 4] Skip, there is no furiosa-bench")
            return
        self._write("[Step 4] Perform inference once for data collection... (Optional)")
        with tempfile.TemporaryDirectory(prefix="furiosa-litmus-") as folder:
            text = self._attempt(
                "Step 4",
                lambda: inference.once(
                    enf, self._request.target, Path(folder), self._terminal.err, self._bundle
                ),
            )
        self._write(text)
        self._write("[Step 4] Finished")

    def _attempt(self, step: str, work: Callable[[], _T]) -> _T:
        """Raises: Failed, whatever it was that a model of somebody's own made go wrong."""
        try:
            return work()
        except Exception as exc:
            is_other_file = isinstance(exc, trial.NotOnnx) and step == "Step 1"
            self._terminal.say(f"[{step}] {_NOT_ONNX if is_other_file else _FAILED}")
            raise Failed(_sentence(exc)) from exc

    def _write(self, line: str) -> None:
        print(line, file=self._terminal.out, flush=True)


def _sentence(exc: BaseException) -> str:
    """In one line; `path: reason` for an error of the operating system, without its number."""
    if isinstance(exc, MemoryError):
        return "there is not enough memory"
    if isinstance(exc, OSError) and exc.strerror:
        return f"{exc.filename}: {exc.strerror}" if exc.filename else exc.strerror
    return " ".join(str(exc).split()) or type(exc).__name__
