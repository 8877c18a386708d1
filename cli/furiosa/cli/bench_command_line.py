"""The command line of `furiosa-bench`.

Source: command reference 5 (options, help layout). `--warm-up`, `--plot` and `--compare` are our own.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from furiosa.cli.exitcodes import ExitCode
from furiosa.cli.starting import starting
from furiosa.cli.terminal import Terminal
from furiosa.common.build import VERSION

_WORKLOADS: Final = ("L", "T", "latency", "throughput")
_PLOTS: Final = (".svg", ".html")
_EPILOG: Final = (
    "Exit status: 0 measured; 1 an error that stderr tells; 2 a wrong command line; 130 interrupted: the "
    "report is of what was measured until then."
)


class _Parser(argparse.ArgumentParser):
    """Its help has the published layout."""

    def format_help(self) -> str:
        formatter = self._get_formatter()
        formatter.add_usage(self.usage, self._actions, [], prefix="USAGE:\n  ")
        for group in self._action_groups:
            if group._group_actions:
                formatter.start_section(group.title)
                formatter.add_arguments(group._group_actions)
                formatter.end_section()
        formatter.add_text(self.epilog)
        return formatter.format_help()


def build_parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="furiosa-bench",
        usage="furiosa-bench [OPTIONS] <model-path>\n"
        "  furiosa-bench --compare <result-path> <result-path>",
        epilog=_EPILOG,
        allow_abbrev=False,
        add_help=False,
    )
    add = parser.add_argument_group("OPTIONS").add_argument
    add(
        *("-b", "--batch"),
        metavar="<number>",
        type=int,
        default=1,
        help="batch size, a power of two; an ENF has its own (default: 1)",
    )
    add(
        *("-o", "--output"),
        metavar="<bench-result-path>",
        type=Path,
        help="write the report as JSON, too",
    )
    add(
        *("-C", "--compiler-config"),
        metavar="<compiler-config>",
        type=Path,
        help="YAML file with configuration keys of the compiler",
    )
    add(
        *("-d", "--devices"),
        metavar="<devices>",
        help='e.g. "warboy(2)*1" or npu0pe0-1 (default: $FURIOSA_DEVICES, then "warboy(2)*1")',
    )
    add("-h", "--help", action="help", help="show this help and exit")
    add(
        *("-t", "--io-threads"),
        metavar="<number>",
        type=int,
        default=1,
        help="threads that send the queries of the throughput workload: 1 has <workers> in flight on "
        "each device, of more each has one (default: 1)",
    )
    add(
        "--duration",
        metavar="<min-duration>",
        type=float,
        default=0.0,
        help="seconds to measure at least (default: 0)",
    )
    add(
        *("-n", "--queries"),
        metavar="<min-query-count>",
        type=int,
        default=1,
        help="queries to execute at least (default: 1)",
    )
    add(
        *("-T", "--trace-output"),
        metavar="<trace-output>",
        type=Path,
        help="write a Chrome trace of the queries (JSON)",
    )
    add(
        *("-V", "--version"),
        action="version",
        version=f"furiosa-bench {VERSION}",
        help="show the version and exit",
    )
    add("-v", "--verbose", action="store_true", help="say on stderr what is being done")
    add(
        *("-w", "--workers"),
        metavar="<number>",
        type=int,
        default=1,
        help="queries that a device takes at once (default: 1)",
    )
    add(
        "--workload",
        metavar="<workload>",
        choices=_WORKLOADS,
        default="L",
        help="L or latency: one query after the other; T or throughput: as many in flight as the "
        "devices take (default: L)",
    )
    add(
        "--warm-up",
        metavar="<number>",
        type=int,
        default=1,
        help="queries that are not counted, before those that are, for each in flight (default: 1)",
    )
    add(
        "--plot",
        metavar="<plot-path>",
        type=Path,
        help="draw the latencies and their course in time: an .svg or .html file",
    )
    add(
        "--compare",
        nargs=2,
        metavar="<result-path>",
        type=Path,
        help="measure nothing; show two JSON reports side by side",
    )
    add = parser.add_argument_group("ARGS").add_argument
    add("model", metavar="<model-path>", nargs="?", type=Path, help="ONNX, TFLite or ENF file")
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
    parser = build_parser()
    try:
        args = parser.parse_args(argv)
        if args.compare is not None and args.model is not None:
            parser.error("--compare takes two reports and no model")
        if args.compare is None and args.model is None:
            parser.error("the following arguments are required: <model-path>")
        if args.plot is not None and args.plot.suffix.lower() not in _PLOTS:
            parser.error(f"--plot: {args.plot} does not end in {' or '.join(_PLOTS)}")
    except SystemExit as exc:  # argparse has printed its help or what is wrong
        return ExitCode.OK if not exc.code else ExitCode.USAGE
    # imported on use: `--help` needs no runtime
    if args.compare is not None:
        from furiosa.cli.comparing import compare

        first, second = args.compare
        return compare(first, second, terminal)
    return _measure(parser, args, terminal)


def _measure(
    parser: argparse.ArgumentParser, args: argparse.Namespace, terminal: Terminal
) -> ExitCode:
    with starting():
        from furiosa.cli.benchmarking import BadConfig, Request, perform, sentence

    try:
        request = Request.of(args)
    except (BadConfig, OSError) as exc:
        terminal.say(f"furiosa-bench: {sentence(exc)}")
        return ExitCode.FAILURE
    except ValueError as exc:
        terminal.say(f"furiosa-bench: {exc}")
        return ExitCode.USAGE
    return perform(request, terminal)
