"""How the compiler is put together: passes, lowerings, rules, stages and instruments.

A pass keeps the IR, a lowering changes it. Both may assume a verified input and must leave a verified
output, and neither changes its input. Looking, timing and verifying are instruments around them.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, Protocol, TypeVar

from furiosa.compiler.options import CompilerOptions
from furiosa.compiler.value import Array

G = TypeVar("G")
Source_ = TypeVar("Source_")
Target_ = TypeVar("Target_")


@dataclass(frozen=True, slots=True)
class PassResult(Generic[G]):
    """`changed` False promises that `graph` is the graph that came in."""

    graph: G
    changed: bool


def graph_of(result: Any) -> Any:
    """The graph that a step left: a lowering hands it out bare."""
    return result.graph if isinstance(result, PassResult) else result


class Pass(ABC, Generic[G]):
    name: ClassVar[str]

    @abstractmethod
    def run(self, graph: G, options: CompilerOptions) -> PassResult[G]: ...


class Lowering(ABC, Generic[Source_, Target_]):
    name: ClassVar[str]

    @abstractmethod
    def run(self, graph: Source_, options: CompilerOptions) -> Target_: ...


Work = Pass[Any] | Lowering[Any, Any]


@dataclass(frozen=True, slots=True)
class Step:
    """One pass or lowering; steps that follow each other under one `label` are shown as one."""

    work: Work
    label: str = ""


@dataclass(frozen=True, slots=True)
class Stage:
    """From one IR to the next: passes and, somewhere among them, the lowering."""

    source: str
    target: str
    steps: tuple[Step, ...]


Rule = Callable[[Any], Iterator[str]]  # yields a message for each violation: node and found value


@dataclass(frozen=True, slots=True)
class Ir:
    """An IR as the driver sees it."""

    name: str
    type: type[Any]
    rules: tuple[Rule, ...]
    print: Callable[[Any], str]
    arrays: Callable[[Any], Iterable[Array]]  # that the text may name by a digest
    parse: Callable[[str], Any]  # what was printed, with its arrays behind it; raises InvalidFormat


class Instrument(Protocol):
    """Sees every step: what went in, what came out (of a pass a PassResult); changes neither."""

    def after(self, work: Work, before: Any, result: Any, seconds: float) -> None: ...
