"""Where a compilation begins: what a source is, and the stages that are left from there."""

import contextlib
from collections.abc import Iterator
from typing import Any, ClassVar, Final

from furiosa.compiler.dfg.passes.grow_batch import GrowBatch
from furiosa.compiler.diagnostics import (
    CompilationFailed,
    CompileError,
    InvalidConfig,
    InvalidFormat,
    InvalidModel,
)
from furiosa.compiler.frontend import ImportTflite, is_tflite
from furiosa.compiler.infra import Ir, Lowering, Stage, Step
from furiosa.compiler.options import IRS as NAMES
from furiosa.compiler.options import CompilerOptions
from furiosa.compiler.pipeline import IRS, STAGES

_TEXTS: Final = {f"{ir.name} ".encode(): ir for ir in IRS}
_HINT: Final = "give the file as the compiler wrote it"


def ir_of(source: bytes) -> Ir | None:
    """The IR whose text this is; None for the bytes of a model."""
    return next((ir for start, ir in _TEXTS.items() if source.startswith(start)), None)


def stages_from(source: bytes, options: CompilerOptions) -> tuple[Stage, ...]:
    """From the source's format to the target IR; none when that is what the source is.

    Raises: InvalidConfig when the target comes before the source.
    """
    target = NAMES.index(options.target_ir)
    if (ir := ir_of(source)) is not None:
        first = NAMES.index(ir.name) + 1
        if target < first - 1:
            raise InvalidConfig(
                f"target ir '{options.target_ir}' comes before the source, which is a {ir.name}"
            )
        return STAGES[first : target + 1]
    if is_tflite(source):
        first_stage, *others = STAGES
        steps = (Step(ImportTflite()), *first_stage.steps[1:])
        return (Stage("tflite", first_stage.target, steps), *others)[: target + 1]
    return STAGES[: target + 1]


def steps_before(source: bytes) -> tuple[Step, ...]:
    """What turns the text of an IR into the graph that its stage begins with."""
    ir = ir_of(source)
    if ir is None:
        return ()
    read = Step(ReadText(ir))
    return (read, Step(GrowBatch())) if ir.name == "dfg" else (read,)


class ReadText(Lowering[bytes, Any]):
    """Raises: InvalidFormat."""

    name: ClassVar[str] = "read-text"

    def __init__(self, ir: Ir) -> None:
        self._ir = ir

    def run(self, graph: bytes, options: CompilerOptions) -> Any:
        try:
            return self._ir.parse(graph.decode())
        except UnicodeDecodeError as exc:
            raise InvalidFormat(
                f"it is no UTF-8: {exc.reason} at byte {exc.start}", _HINT
            ) from None


@contextlib.contextmanager
def blamed_on(source: bytes) -> Iterator[None]:
    """A graph that somebody wrote may break what passes take for granted: its fault, not theirs."""
    ir = ir_of(source)
    try:
        yield
    except CompilationFailed as exc:
        if ir is None:
            raise
        raise InvalidModel(
            f"the {ir.name} breaks the rule {exc.rule}: {exc.found}", _HINT
        ) from None
    except CompileError:
        raise
    except Exception as exc:
        if ir is None:
            raise
        found = f"it is no {ir.name} that the compiler makes ({type(exc).__name__}: {exc})"
        raise InvalidModel(found, _HINT) from exc
