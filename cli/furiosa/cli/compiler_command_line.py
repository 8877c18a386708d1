"""The command line of `furiosa-compiler`: an ONNX or TensorFlow Lite model in, a program for the NPU out.

Progress and errors go to stderr. Source: command reference 3 (options, help line, progress).
"""

import argparse
import contextlib
import logging
import os
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path

from furiosa.cli.exitcodes import ExitCode
from furiosa.cli.terminal import Terminal
from furiosa.compiler import CompileError, CompilerOptions, PrintProgress
from furiosa.compiler.options import IRS, MAX_MODEL_BYTES
from furiosa.tools.compiler.cache import compile_cached, open_results


def _headline() -> str:
    return f"Furiosa SDK Compiler v{version('furiosa-broker')}"


class _Parser(argparse.ArgumentParser):
    def format_help(self) -> str:
        return f"{_headline()}\n\n{super().format_help()}"


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="furiosa-compiler", allow_abbrev=False)
    parser.add_argument("source", metavar="SOURCE", type=Path, help="ONNX or TensorFlow Lite model")
    parser.add_argument(
        "-o",
        "--output",
        metavar="OUTPUT",
        type=Path,
        help="output file (default: output.<TARGET_IR>, that is output.enf)",
    )
    parser.add_argument(
        "-b",
        "--batch-size",
        metavar="BATCH_SIZE",
        type=int,
        default=1,
        help="how many inferences one run makes (default: 1)",
    )
    parser.add_argument(
        "--target-ir",
        metavar="TARGET_IR",
        default="enf",
        help=f"where to stop: {', '.join(IRS)}; all but enf are text (default: enf)",
    )
    parser.add_argument(
        "--target-npu",
        metavar="TARGET_NPU",
        default="warboy-2pe",
        help="warboy (1 PE) or warboy-2pe (2 PEs fused) (default: warboy-2pe)",
    )
    parser.add_argument("-v", "--verbose", action="store_true", help="show details of the compile")
    parser.add_argument("--no-cache", action="store_true", help="do not use the result cache")
    parser.add_argument("-V", "--version", action="version", version=_headline())
    return parser


def run(argv: Sequence[str] | None) -> ExitCode:
    """Run one command line (None: the process's) and return its exit status."""
    terminal = Terminal.standard()
    try:
        _run(_parser().parse_args(argv), terminal)
    except SystemExit as exc:  # argparse has printed its help or what is wrong
        return ExitCode.OK if not exc.code else ExitCode.USAGE
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED
    except (CompileError, OSError) as exc:
        terminal.say(f"ERROR: {_sentence(exc)}")
        return ExitCode.FAILURE
    except MemoryError:
        terminal.say("ERROR: there is not enough memory to compile this model")
        return ExitCode.FAILURE
    return ExitCode.OK


def _run(args: argparse.Namespace, terminal: Terminal) -> None:
    options = CompilerOptions(
        target=args.target_npu, batch_size=args.batch_size, target_ir=args.target_ir
    )
    output: Path = args.output or Path(f"output.{options.target_ir}")
    if not args.source.exists():
        raise FileNotFoundError(f"{args.source} does not exist")
    if output.is_dir():  # said before the work, not after it
        raise IsADirectoryError(f"{output} is a folder")
    if output.is_file() and output.samefile(args.source):
        raise FileExistsError(f"{output} is the model itself: choose another output with -o")
    if not os.access(output.parent, os.W_OK | os.X_OK):
        raise PermissionError(f"{output.parent} is no folder that can be written to")
    with args.source.open("rb") as file:
        model = file.read(MAX_MODEL_BYTES + 1)
    results = None if args.no_cache else open_results(os.environ)
    progress = PrintProgress(terminal.err)
    with _details(args.verbose, terminal), _warnings(terminal):
        # who asks for details of the compile is not served with what was compiled before
        is_reused = not args.verbose
        result = compile_cached(model, options, progress, results=results, is_reused=is_reused)
    save(output, result)
    terminal.say(f"The output has been saved to {output}")


@contextlib.contextmanager
def _details(wanted: bool, terminal: Terminal) -> Iterator[None]:
    """The compiler's own log on stderr: steps with their times, and why operators are not for the NPU."""
    log = logging.getLogger("furiosa.compiler")
    handler, level = logging.StreamHandler(terminal.err), log.level
    if wanted:
        log.addHandler(handler)
        log.setLevel(logging.DEBUG)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(level)


@contextlib.contextmanager
def _warnings(terminal: Terminal) -> Iterator[None]:
    """What the cache warns of, on stderr."""
    log = logging.getLogger("furiosa.tools.compiler")
    handler = logging.StreamHandler(terminal.err)
    handler.setFormatter(logging.Formatter("%(levelname)s: %(message)s"))
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)


def save(path: Path, data: bytes) -> None:
    """Write the file whole or not at all: beside it first, then moved over it.

    What is there and is no regular file (a pipe, /dev/stdout) is written to as it is.
    Raises: OSError, naming `path`.
    """
    try:
        if path.exists() and not path.is_file():
            path.write_bytes(data)
        else:
            _replace(path.resolve(), data)  # a link stays a link
    except OSError as exc:
        raise OSError(exc.errno, exc.strerror, str(path)) from None


def _replace(path: Path, data: bytes) -> None:
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with beside.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def _sentence(exc: Exception) -> str:
    """`path: reason` for an error of the operating system, without its number."""
    if isinstance(exc, OSError) and exc.strerror:
        return f"{exc.filename}: {exc.strerror}" if exc.filename else exc.strerror
    return str(exc)
