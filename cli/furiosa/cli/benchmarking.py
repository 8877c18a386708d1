"""What `furiosa-bench` does with a model: measure, write files, print."""

import argparse
import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from furiosa.cli.exitcodes import ExitCode
from furiosa.cli.progress import watching
from furiosa.cli.render.latency_plot import Bucket, Moment, Plot, html, svg
from furiosa.cli.terminal import Terminal
from furiosa.runtime import FuriosaRuntimeError
from furiosa.runtime.bench import BenchConfig, BenchReport, BenchRunner, Stage
from furiosa.tools.compiler.files import save

_DRAW: Final[Mapping[str, Callable[[Plot], str]]] = {".svg": svg, ".html": html}


class BadConfig(ValueError):
    """The file with configuration keys of the compiler is not such a file."""


@dataclass(frozen=True, slots=True)
class Request:
    config: BenchConfig
    workload: str
    output: Path | None
    plot: Path | None
    is_verbose: bool

    @classmethod
    def of(cls, args: argparse.Namespace) -> Self:
        """Raises: ValueError for numbers that make no sense; OSError, BadConfig."""
        config = BenchConfig(
            args.model,
            trace_output=args.trace_output,
            batch=args.batch,
            compiler_config=_compiler_config(args.compiler_config),
            devices=args.devices,
            workers=args.workers,
            queries=args.queries,
            duration=args.duration,
            io_threads=args.io_threads,
            warm_up=args.warm_up,
        )
        return cls(config, args.workload, args.output, args.plot, args.verbose)


def perform(request: Request, terminal: Terminal) -> ExitCode:
    """The report goes to stdout, also when Ctrl+C ended the measurement; all else to stderr."""
    try:
        _check(request)
        report, is_whole = asyncio.run(_measured(request, terminal))
    except (FuriosaRuntimeError, OSError) as exc:
        terminal.say(f"furiosa-bench: {sentence(exc)}")
        return ExitCode.FAILURE
    code = ExitCode.OK if is_whole else ExitCode.INTERRUPTED
    if report is None:
        return code
    try:
        if request.output is not None:
            save(request.output, f"{report.json()}\n".encode())
        if request.plot is not None:
            draw = _DRAW[request.plot.suffix.lower()]
            save(request.plot, draw(_plot(report)).encode())
    except OSError as exc:
        terminal.say(f"furiosa-bench: {sentence(exc)}")
        code = ExitCode.FAILURE
    terminal.out.write(f"{report.text()}\n")
    return code


async def _measured(request: Request, terminal: Terminal) -> tuple[BenchReport | None, bool]:
    """The report, if anything was measured, and whether all that was wanted."""
    runner = BenchRunner(request.config, request.workload)
    running = asyncio.ensure_future(runner.run())
    was_interrupted = False

    def interrupt() -> None:
        nonlocal was_interrupted
        if not was_interrupted and runner.stage is Stage.MEASURING and runner.queries:
            runner.stop()
        else:
            running.cancel()
        was_interrupted = True

    with _on_interrupt(interrupt):
        async with watching(runner, terminal.err, is_verbose=request.is_verbose):
            try:
                return await running, not was_interrupted
            except asyncio.CancelledError:
                return runner.report() if runner.queries else None, False


@contextlib.contextmanager
def _on_interrupt(act: Callable[[], None]) -> Iterator[None]:
    """Calls `act` for each Ctrl+C, unless it is ignored."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        yield
        return
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGINT, act)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGINT)


def _compiler_config(path: Path | None) -> Mapping[str, object] | None:
    if path is None:
        return None
    import yaml  # few need it

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as exc:
        raise BadConfig(f"{path}: {' '.join(str(exc).split())}") from None
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise BadConfig(f"{path}: expected a mapping of configuration keys")
    return content


def _check(request: Request) -> None:
    """Said before the work, not after it."""
    for path in (request.output, request.config.trace_output, request.plot):
        if path is None:
            continue
        if (path := Path(path)).is_dir():
            raise IsADirectoryError(f"{path} is a folder")
        if path.exists() and path.samefile(request.config.path):
            raise FileExistsError(f"{path} is the model itself: choose another output")
        place = path if path.exists() else path.parent
        if not os.access(place, os.W_OK):
            raise PermissionError(f"{place} cannot be written to")


def _plot(report: BenchReport) -> Plot:
    return Plot(
        title=report.path,
        subtitle=f"{report.workload.value} workload, batch size {report.batch}: "
        f"{report.queries:,} queries in {report.run_time / 1e9:,.2f} s, {report.qps:,.2f}/s",
        buckets=tuple(
            Bucket(low / 1000, (high + 1) / 1000, count)
            for low, high, count in report.without_omissions.buckets()
        ),
        stats=report.stats,
        course=tuple(
            Moment(
                slot.start / 1e9,
                slot.end / 1e9,
                slot.latencies.count,
                *(slot.latencies.percentile(rank) / 1000 for rank in (50.0, 99.0, 100.0)),
            )
            for slot in report.timeline.slots(report.run_time)
        ),
    )


def sentence(exc: Exception) -> str:
    """In one line; `path: reason` for an error of the operating system, without its number."""
    if isinstance(exc, OSError) and exc.strerror:
        return f"{exc.filename}: {exc.strerror}" if exc.filename else exc.strerror
    return " ".join(str(exc).split())
