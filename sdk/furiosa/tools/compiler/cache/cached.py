"""Compile, unless it was done before."""

import time
from collections.abc import Sequence

from furiosa.common.clock import Clock
from furiosa.compiler import CompilerOptions, Progress, compile
from furiosa.compiler.infra import Instrument
from furiosa.tools.compiler.cache.key import key_of
from furiosa.tools.compiler.cache.results import Results


def compile_cached(
    model: bytes,
    options: CompilerOptions | None = None,
    progress: Progress | None = None,
    *,
    results: Results | None,
    is_reused: bool = True,
    instruments: Sequence[Instrument] = (),
    clock: Clock = time.perf_counter,
) -> bytes:
    """As `furiosa.compiler.compile`, with `results` asked first and told afterwards (None: compile).

    A result found there runs no stage: `progress` hears that all is finished, and nothing else.
    Without `is_reused` it is made anew and kept. `instruments` see a compilation that takes place.
    Raises: CompileError.
    """
    if results is None:
        return compile(model, options, progress, instruments=instruments, clock=clock)
    start = clock()
    options = options or CompilerOptions()
    key = key_of(model, options)
    found = results.get(key) if is_reused else None
    if found is not None:
        if progress:
            progress.finished(clock() - start)
        return found
    result = compile(model, options, progress, instruments=instruments, clock=clock)
    results.put(key, result)
    return result
