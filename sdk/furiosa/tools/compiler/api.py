"""The compile API. Source: compiler reference 5; errors: 3.4."""

import contextlib
import io
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TextIO

from furiosa.compiler import CompileError, CompilerOptions, PrintProgress
from furiosa.compiler.options import IRS
from furiosa.tools.compiler.batches import largest_batch
from furiosa.tools.compiler.cache import open_results
from furiosa.tools.compiler.errors import CompilerApiError, IoError, native
from furiosa.tools.compiler.files import save
from furiosa.tools.compiler.genetic import GeneticParams
from furiosa.tools.compiler.listening import details
from furiosa.tools.compiler.reported import compile_reported
from furiosa.tools.compiler.version import VersionInfo, version_dict, version_string

__all__ = ["CompilerApiError", "VersionInfo", "compile", "version_dict", "version_string"]

StrPath = str | os.PathLike[str]


def compile(
    input_bytes: bytes,
    target_ir: str = "enf",
    log: StrPath | None = None,
    dot_graph: StrPath | None = None,
    analyze_memory: StrPath | None = None,
    batch_size: int | None = None,
    split_after_lower: bool | None = None,
    auto_batch_size: bool | None = None,
    ga_params: Mapping[str, object] | None = None,
    target_npu: str = "warboy-2pe",
    cache_enabled: bool = True,
    verbose: bool = False,
) -> bytes:
    """An ENF program, or the text of the IR that `target_ir` names in any case, of a model's bytes.

    Progress, and with `verbose` every step, goes to the file `log`, else to stderr. `dot_graph` and
    `analyze_memory` are files for reports, written when all is compiled. `auto_batch_size` chooses the
    batch in place of `batch_size`. `ga_params`: furiosa.tools.compiler.genetic. `split_after_lower`
    changes nothing: sections are joined after the lowering in any case.
    Raises: CompilerApiError, see furiosa.tools.compiler.errors.
    """
    if target_ir.lower() not in IRS:
        raise CompilerApiError(f"invalid target ir '{target_ir}'")
    if batch_size is not None and auto_batch_size:
        raise CompilerApiError("batch_size and auto_batch_size exclude each other")
    try:
        genetic = None if ga_params is None else GeneticParams.from_mapping(ga_params)
        options = CompilerOptions(
            target=target_npu,
            batch_size=1 if batch_size is None else batch_size,
            target_ir=target_ir,
            search=None if genetic is None else genetic.search,
        )
        # a result of chance is not found again, so it is not kept either
        is_kept = cache_enabled and (genetic is None or not genetic.nondeterministic)
        results = open_results(os.environ) if is_kept else None
        if auto_batch_size:
            options = options.with_batch(largest_batch(input_bytes, options))
        with _stream(log) as stream, details(stream, wanted=verbose):
            compiled = compile_reported(
                input_bytes,
                options,
                PrintProgress(stream),
                results=results,
                is_reused=not verbose,
                dot_graph=dot_graph is not None,
                memory_report=analyze_memory is not None,
            )
        for path, report in (
            (dot_graph, compiled.dot_graph),
            (analyze_memory, compiled.memory_report),
        ):
            if path is not None and report is not None:
                save(Path(path), report)
    except CompileError as exc:
        raise native(exc) from exc
    except OSError as exc:
        raise IoError(str(exc)) from exc
    return compiled.result


@contextlib.contextmanager
def _stream(path: StrPath | None) -> Iterator[TextIO]:
    if path is None:
        yield sys.stderr or io.StringIO()  # closed by whoever started us
        return
    with open(path, "w", encoding="utf-8") as file:
        yield file
