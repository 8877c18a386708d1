"""The command line of `furiosa compile`, the older wrapper around the compiler.

Source: command reference 2 (options, texts, exit status), 1.1 (version).
"""

import argparse
import contextlib
import logging
import os
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Final, NoReturn

from furiosa.cli.compiling import Request, attempt, perform
from furiosa.cli.exitcodes import ExitCode
from furiosa.cli.terminal import Terminal
from furiosa.common.build import VERSION
from furiosa.common.log_levels import LEVELS
from furiosa.compiler import CompilerOptions, InvalidConfig
from furiosa.tools.compiler.genetic import GeneticParams
from furiosa.tools.compiler.version import COMPILER

_TARGET_IRS: Final = ("dfg", "cdfg", "gir", "lir", "enf")


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(ExitCode.COMPILE, f"ERROR: {message}\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="furiosa-compile",
        description=f"FuriosaAI SDK Compiler (ver. {VERSION.version})",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("source", type=Path, help="ONNX or TensorFlow Lite model")
    add(
        "--version",
        action=_Print,
        text=_version(),
        help="show the versions of the NPU library, the compiler and this wrapper and exit",
    )
    add("-o", "--output", type=Path, help="output file (default: output.<target ir>)")
    add("--target-ir", default="enf", help=f"{', '.join(_TARGET_IRS)} (default: %(default)s)")
    add("--target-npu", default="warboy-2pe", help="target NPU (default: %(default)s)")
    add("--batch-size", type=int, help="inferences of one run (default: 1)")
    add(
        "--auto-batch-size",
        action="store_true",
        help="choose the largest batch size whose tensors stay in SRAM",
    )
    add(
        "--split-after-lower",
        action="store_true",
        help="accepted and without effect: sections are joined after the lowering in any case",
    )
    add(
        *("-ga", "--genetic-optimization"),
        metavar="K=V,K=V...",
        help="search for a better allocation of memory, with population_size, generation_limit, "
        "max_prefetch_size (ints), nondeterministic, pin_tensors (true or false), "
        "init_tactic (random or heuristic)",
    )
    add("--analyze-memory", type=Path, help="write a report on memory allocation (HTML)")
    add("--dot-graph", type=Path, help="write a DOT graph of the model")
    add(
        "--description",
        action=_Print,
        text=parser.description,
        help="show what this is and exit",
    )
    add("-v", "--verbose", action="store_true", help="show details of the compile")
    return parser


def _version() -> str:
    """Two lines, which check an installation. The NPU library is part of the SDK, with its number."""
    release = VERSION.version.rpartition(".")[0]
    built = datetime.fromisoformat(COMPILER.build_timestamp).strftime("%Y-%m-%d %H:%M:%S")
    return (
        f"libnpu.so --- v{release}, built @ {VERSION.hash[:7]}\n"
        f"{COMPILER.version} (rev: {COMPILER.git_hash} built at {built}) "
        f"(wrapper: {VERSION.version})"
    )


class _Print(argparse.Action):
    """Prints `text` as it is: argparse's own version action would fold its lines."""

    def __init__(self, option_strings: Sequence[str], dest: str, text: str, help: str) -> None:
        super().__init__(option_strings, dest, nargs=0, default=argparse.SUPPRESS, help=help)
        self._text = text

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: object,
        option_string: str | None = None,
    ) -> None:
        print(self._text)
        parser.exit()


def run(argv: Sequence[str] | None) -> ExitCode:
    """Run one command line (None: the process's) and return its exit status."""
    terminal = Terminal.standard()

    def work() -> None:
        _run(_parser().parse_args(argv), terminal)

    return attempt(work, terminal, ExitCode.COMPILE)


def _run(args: argparse.Namespace, terminal: Terminal) -> None:
    terminal.say(
        f"furiosa-compiler {COMPILER.version} (rev. {COMPILER.git_hash}), "
        f"furiosa-tools {VERSION.version} (rev. {VERSION.revision})"
    )
    with _log_level() as level:
        perform(_request(args, is_verbose=args.verbose or level == "DEBUG"), terminal)


@contextlib.contextmanager
def _log_level() -> Iterator[str]:
    """That of FURIOSA_LOG_LEVEL: what is below it is not shown. Raises: InvalidConfig."""
    level = (os.environ.get("FURIOSA_LOG_LEVEL") or "INFO").upper()
    if level not in LEVELS:
        raise InvalidConfig(
            f"FURIOSA_LOG_LEVEL: expected one of {', '.join(LEVELS)}, found {level!r}"
        )
    log = logging.getLogger("furiosa")
    before = log.level
    log.setLevel(LEVELS[level])
    try:
        yield level
    finally:
        log.setLevel(before)


def _request(args: argparse.Namespace, *, is_verbose: bool) -> Request:
    if args.target_ir.lower() not in _TARGET_IRS:
        raise InvalidConfig(f"invalid target ir '{args.target_ir}'")
    if args.auto_batch_size and args.batch_size is not None:
        raise InvalidConfig("--batch-size and --auto-batch-size exclude each other")
    text = args.genetic_optimization
    genetic = None if text is None else GeneticParams.parse(text)
    return Request(
        source=args.source,
        options=CompilerOptions(
            target=args.target_npu,
            batch_size=1 if args.batch_size is None else args.batch_size,
            target_ir=args.target_ir,
            search=None if genetic is None else genetic.search,
        ),
        output=args.output,
        dot_graph=args.dot_graph,
        memory_report=args.analyze_memory,
        is_verbose=is_verbose,
        is_cached=genetic is None or not genetic.nondeterministic,
        is_batch_chosen=args.auto_batch_size,
    )
