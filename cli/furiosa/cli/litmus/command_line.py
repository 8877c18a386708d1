"""The command line of `furiosa-litmus`. Source: command reference 4."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from furiosa.cli.exitcodes import ExitCode
from furiosa.cli.starting import starting
from furiosa.cli.terminal import Terminal

_EPILOG: Final = (
    "Exit status: 0 the model works; 1 it does not, stderr says where and why; 2 a wrong command line; "
    "130 interrupted."
)


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="furiosa-litmus",
        description="Validate the model",
        epilog=_EPILOG,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("model_path", type=Path, help="ONNX model")
    add(
        "--dump",
        metavar="OUTPUT_PREFIX",
        type=Path,
        help="collect logs and facts about the environment in OUTPUT_PREFIX-<unix epoch>.zip, also when "
        "a step fails; the model is not in it",
    )
    add(
        "--skip-quantization",
        action="store_true",
        help="the model is quantized already: leave out steps 1 and 2",
    )
    add("--target-npu", default="warboy-2pe", help="warboy or warboy-2pe")
    add("-v", "--verbose", action="store_true", help="show details of the compile")
    return parser


def run(argv: Sequence[str] | None) -> ExitCode:
    """Run one command line (None: the process's) and return its exit status."""
    terminal = Terminal.standard()
    try:
        code = _run(argv, terminal)
        terminal.out.flush()
    except KeyboardInterrupt:
        code = ExitCode.INTERRUPTED
    except BrokenPipeError:
        code = ExitCode.BROKEN_PIPE
    terminal.finish()
    return code


def _run(argv: Sequence[str] | None, terminal: Terminal) -> ExitCode:
    try:
        args = build_parser().parse_args(argv)
    except SystemExit as exc:  # argparse has printed its help or what is wrong
        return ExitCode.OK if not exc.code else ExitCode.USAGE
    with starting():  # on use: `--help` needs neither compiler nor runtime
        from furiosa.cli.litmus.validation import Request, validate

    request = Request(
        model=args.model_path,
        dump=args.dump,
        is_quantized=args.skip_quantization,
        target=args.target_npu,
        is_verbose=args.verbose,
    )
    return validate(request, terminal)
