"""Compile, and draw what was compiled."""

from dataclasses import dataclass
from typing import TypeVar

from furiosa.compiler import CompilerOptions, InvalidConfig, Progress
from furiosa.compiler.gir.ir import Gir
from furiosa.compiler.instruments import Keep
from furiosa.compiler.ldfg.ir import Ldfg
from furiosa.compiler.options import IRS
from furiosa.tools.compiler.cache import Results, compile_cached

G = TypeVar("G")


@dataclass(frozen=True, slots=True)
class Reported:
    """`result` as of `furiosa.compiler.compile`; the reports are None when nobody asked for them."""

    result: bytes
    dot_graph: bytes | None = None
    memory_report: bytes | None = None


def compile_reported(
    model: bytes,
    options: CompilerOptions,
    progress: Progress | None = None,
    *,
    results: Results | None,
    is_reused: bool = True,
    dot_graph: bool = False,
    memory_report: bool = False,
) -> Reported:
    """As `compile_cached`, with a DOT graph of the ldfg and an HTML page about the gir, if wanted.

    Reports are of a compilation that took place, so with one of them no earlier result is reused.
    Raises: CompileError, also for a report on an IR that this compilation does not make.
    """
    if dot_graph:
        _check("a DOT graph", "ldfg", options)
    if memory_report:
        _check("a memory report", "gir", options)
    kinds = [kind for kind, wanted in ((Ldfg, dot_graph), (Gir, memory_report)) if wanted]
    keep = Keep(*kinds)
    result = compile_cached(
        model,
        options,
        progress,
        results=results,
        is_reused=is_reused and not kinds,
        instruments=(keep,) if kinds else (),
    )
    return Reported(
        result,
        _dot_graph(keep) if dot_graph else None,
        _memory_report(keep) if memory_report else None,
    )


def _check(what: str, ir: str, options: CompilerOptions) -> None:
    if IRS.index(options.target_ir) < IRS.index(ir):
        raise InvalidConfig(
            f"{what} is made from the {ir}, and target ir '{options.target_ir}' is before it"
        )


def _dot_graph(keep: Keep) -> bytes:
    from furiosa.compiler.reports import dot_graph  # only who wants a report pays for the import

    return dot_graph(_made(keep, Ldfg, "a DOT graph", "ldfg")).encode()


def _memory_report(keep: Keep) -> bytes:
    from furiosa.compiler.reports import memory_report

    return memory_report(_made(keep, Gir, "a memory report", "gir")).encode()


def _made(keep: Keep, kind: type[G], what: str, ir: str) -> G:
    graph = keep.last(kind)
    if graph is None:
        raise InvalidConfig(f"{what} is made from the {ir}, and the source is behind it")
    return graph
