"""What `furiosa-compiler` and `furiosa compile` have in common: a model file in, files out.

Progress and errors go to stderr. Files are written when all is compiled, each whole or not at all.
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from furiosa.cli.exitcodes import ExitCode
from furiosa.cli.terminal import Terminal
from furiosa.compiler import CompileError, CompilerOptions, PrintProgress
from furiosa.tools.compiler.batches import largest_batch
from furiosa.tools.compiler.cache import open_results
from furiosa.tools.compiler.files import save
from furiosa.tools.compiler.listening import details, warnings
from furiosa.tools.compiler.models import read_model
from furiosa.tools.compiler.reported import compile_reported


@dataclass(frozen=True, slots=True)
class Request:
    """`output` None: output.<target ir>. `is_batch_chosen`: its batch size is to be found out."""

    source: Path
    options: CompilerOptions
    output: Path | None = None
    dot_graph: Path | None = None
    memory_report: Path | None = None
    is_verbose: bool = False
    is_cached: bool = True
    is_batch_chosen: bool = False

    @property
    def output_path(self) -> Path:
        return self.output or Path(f"output.{self.options.target_ir}")

    @property
    def outputs(self) -> Iterator[Path]:
        return (p for p in (self.output_path, self.dot_graph, self.memory_report) if p is not None)


def perform(request: Request, terminal: Terminal) -> None:
    """Raises: CompileError, OSError, MemoryError."""
    _check(request)
    model = read_model(request.source)
    results = open_results(os.environ) if request.is_cached else None
    options = request.options
    if request.is_batch_chosen:
        options = options.with_batch(largest_batch(model, options))
        terminal.say(f"The batch size is {options.batch_size}")
    with details(terminal.err, wanted=request.is_verbose), warnings(terminal.err):
        # who asks for details of the compile is not served with what was compiled before
        compiled = compile_reported(
            model,
            options,
            PrintProgress(terminal.err),
            results=results,
            is_reused=not request.is_verbose,
            dot_graph=request.dot_graph is not None,
            memory_report=request.memory_report is not None,
        )
    for path, data in (
        (request.dot_graph, compiled.dot_graph),
        (request.memory_report, compiled.memory_report),
        (request.output_path, compiled.result),
    ):
        if path is not None and data is not None:
            save(path, data)
    terminal.say(f"The output has been saved to {request.output_path}")


def _check(request: Request) -> None:
    """Said before the work, not after it."""
    if not request.source.exists():
        raise FileNotFoundError(f"{request.source} does not exist")
    taken: dict[Path, str] = {request.source.resolve(): "the model itself"}
    for path in request.outputs:
        if path.is_dir():
            raise IsADirectoryError(f"{path} is a folder")
        same = taken.get(path.resolve())
        if path.is_file() and path.samefile(request.source):
            same = "the model itself"
        if same is not None and (path.is_file() or not path.exists()):
            raise FileExistsError(f"{path} is {same}: choose another output")
        taken[path.resolve()] = "another output as well"
        if not os.access(path.parent, os.W_OK | os.X_OK):
            raise PermissionError(f"{path.parent} is no folder that can be written to")


def attempt(work: Callable[[], None], terminal: Terminal, failure: ExitCode) -> ExitCode:
    """Do it and give the exit status; what goes wrong is one line on stderr.

    SystemExit is argparse's, which has printed its help or what is wrong.
    """
    code = ExitCode.OK
    try:
        try:
            work()
        except SystemExit as exc:
            code = ExitCode(exc.code) if isinstance(exc.code, int) else ExitCode.OK
        terminal.out.flush()
        return code
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED
    except BrokenPipeError:
        return ExitCode.BROKEN_PIPE
    except (CompileError, OSError) as exc:
        terminal.say(f"ERROR: {_sentence(exc)}")
    except MemoryError:
        terminal.say("ERROR: there is not enough memory to compile this model")
    finally:
        terminal.finish()
    return failure


def _sentence(exc: Exception) -> str:
    """`path: reason` for an error of the operating system, without its number."""
    if isinstance(exc, OSError) and exc.strerror:
        return f"{exc.filename}: {exc.strerror}" if exc.filename else exc.strerror
    return str(exc)
