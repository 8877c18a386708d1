"""The command line of `furiosa-compiler`: a model in, a program for the NPU out.

Source: command reference 3 (options, help line).
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from furiosa.cli.compiling import Request, attempt, perform
from furiosa.cli.exitcodes import ExitCode
from furiosa.cli.terminal import Terminal
from furiosa.compiler import CompilerOptions
from furiosa.compiler.options import IRS
from furiosa.tools.compiler.version import COMPILER

_HEADLINE: Final = (
    f"Furiosa SDK Compiler v{COMPILER.version} ({COMPILER.git_hash} {COMPILER.build_timestamp})"
)
_LONG: Final = f"""
Sources:
  ONNX (opsets 7 to 22) and TensorFlow Lite models, and the texts of IRs. For acceleration
  quantise an ONNX model first, with furiosa.quantizer. A batch size multiplies dimension 0 of
  inputs and outputs.

Targets:
  warboy      one PE: runs on a single core
  warboy-2pe  two PEs fused: runs on both cores of a card

Target IRs:
  {", ".join(IRS)}; all but enf are text.

Environment:
  FC_CACHE_ENABLED    1 or 0: whether results are kept and used again (default: 1)
  FC_CACHE_STORE_URL  where: a folder, redis://:<PW>@host:port or rediss://:<PW>@host:port
                      (default: $HOME/.cache/furiosa/compiler)
  FC_CACHE_LIFETIME   seconds; 0: compile always, below 0: for ever (default: 30 days)

Exit status:
  0 compiled, 1 an error that stderr tells, 2 a wrong command line, 130 interrupted
"""


class _Help(argparse.Action):
    """`-h` is the short help, `--help` the long one."""

    def __init__(self, option_strings: Sequence[str], dest: str, help: str) -> None:
        super().__init__(option_strings, dest, nargs=0, help=help)

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: object,
        option_string: str | None = None,
    ) -> None:
        text = f"{_HEADLINE}\n\n{parser.format_help()}"
        print(text + (_LONG if option_string == "--help" else ""), end="")
        parser.exit()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="furiosa-compiler",
        usage="furiosa-compiler [OPTIONS] <SOURCE>",
        allow_abbrev=False,
        add_help=False,
    )
    add = parser.add_argument
    add("source", metavar="<SOURCE>", type=Path, help="ONNX or TensorFlow Lite model, or an IR")
    add(
        *("-o", "--output"),
        metavar="<OUTPUT>",
        type=Path,
        help="output file (default: output.<TARGET_IR>, that is output.enf)",
    )
    add(
        *("-b", "--batch-size"),
        metavar="<BATCH_SIZE>",
        type=int,
        default=1,
        help="inferences of one run; effective only for TFLite, ONNX or DFG sources (default: 1)",
    )
    add(
        "--target-ir",
        metavar="<TARGET_IR>",
        default="enf",
        help="experimental: where to stop (default: enf)",
    )
    add(
        "--target-npu",
        metavar="<TARGET_NPU>",
        default="warboy-2pe",
        help="warboy (1 PE) or warboy-2pe (2 PEs fused) (default: warboy-2pe)",
    )
    add("--dot-graph", metavar="<DOT_GRAPH>", type=Path, help="write a DOT graph of the model")
    add(
        "--analyze-memory",
        metavar="<ANALYZE_MEMORY>",
        type=Path,
        help="write a report on memory allocation (HTML)",
    )
    add("-v", "--verbose", action="store_true", help="show details of the compile")
    add("--no-cache", action="store_true", help="do not use the result cache")
    add("-h", "--help", action=_Help, help="show the short (-h) or the long (--help) help and exit")
    add(
        *("-V", "--version"),
        action="version",
        version=_HEADLINE,
        help="show the version and exit",
    )
    return parser


def run(argv: Sequence[str] | None) -> ExitCode:
    """Run one command line (None: the process's) and return its exit status."""
    terminal = Terminal.standard()

    def work() -> None:
        perform(_request(_parser().parse_args(argv)), terminal)

    return attempt(work, terminal, ExitCode.FAILURE)


def _request(args: argparse.Namespace) -> Request:
    return Request(
        source=args.source,
        options=CompilerOptions(
            target=args.target_npu, batch_size=args.batch_size, target_ir=args.target_ir
        ),
        output=args.output,
        dot_graph=args.dot_graph,
        memory_report=args.analyze_memory,
        is_verbose=args.verbose,
        is_cached=not args.no_cache,
    )
