"""Sub-commands of `furiosa`: what is installed here, and what else is on PATH.

Executables are called `furiosa-<name>`; the sub-command is what follows the first "-". Extensions are entry
points of installed packages:

    [project.entry-points."furiosa.commands"]
    pack = "acme.pack:main"

The function takes the arguments after the name and returns an exit status; None is 0. Where several have
one name, the first of these is taken: an executable beside this Python, an extension, an executable on PATH.
So what is installed with the SDK needs no look at other packages, which takes longer than all else here.
"""

import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

GROUP: Final = "furiosa.commands"
PREFIX: Final = "furiosa-"

# In the order of the help text; the first three are published. Source: command reference 1.
SUMMARIES: Final[Mapping[str, str]] = {
    "compile": "FuriosaAI SDK Compiler for DNN models",
    "server": "RESTful/GRPC Serving framework for DNN models",
    "litmus": "Validator to check if DNN models work in FuriosaAI SDK",
    "bench": "Measure latency and throughput of a model",
    "compiler": "Compile a model, without the options of older versions",
    "brokerd": "The broker of the NPUs of this machine",
}


@dataclass(frozen=True, slots=True)
class Executable:
    name: str
    path: str

    @property
    def summary(self) -> str:
        """That of ours; of others where they are: to ask them would be to run them."""
        return SUMMARIES.get(self.name, self.path)


@dataclass(frozen=True, slots=True)
class Extension:
    entry: "EntryPoint"

    @property
    def name(self) -> str:
        return self.entry.name

    @property
    def target(self) -> str:
        return self.entry.value

    @property
    def package(self) -> str:
        """The distribution's name, or what stands for it."""
        return self.entry.dist.name if self.entry.dist is not None else "an unnamed package"

    @property
    def summary(self) -> str:
        """The first line of what the package says of itself."""
        dist = self.entry.dist
        said = dist.metadata["Summary"] if dist is not None and "Summary" in dist.metadata else ""
        return said.strip().partition("\n")[0] or self.package

    def load(self) -> Callable[[Sequence[str]], Any]:
        function: Callable[[Sequence[str]], Any] = self.entry.load()
        return function


Subcommand = Executable | Extension


def find(name: str) -> Subcommand | None:
    """The sub-command of that name."""
    if not _is_name(name):
        return None
    if (path := shutil.which(PREFIX + name, path=_beside())) is not None:
        return Executable(name, path)
    for extension in _extensions():
        if extension.name == name:
            return extension
    path = shutil.which(PREFIX + name)
    return None if path is None else Executable(name, path)


def all_of() -> Sequence[Subcommand]:
    """Every one that `find` finds: first those of SUMMARIES, then the others by name."""
    found: dict[str, Subcommand] = {}
    for names in (_executables(_beside()), _extensions(), _executables(_path())):
        for command in names:
            found.setdefault(command.name, command)
    rank = {name: number for number, name in enumerate(SUMMARIES)}
    return sorted(found.values(), key=lambda item: (rank.get(item.name, len(rank)), item.name))


def _beside() -> str:
    """A virtual environment need not be activated."""
    return os.path.dirname(sys.executable)


def _path() -> str:
    return os.environ.get("PATH", os.defpath)


def _is_name(name: str) -> bool:
    return not name.startswith("-") and os.sep not in name and name != ""


def _extensions() -> Iterator[Extension]:
    from importlib.metadata import entry_points  # takes longer than the rest

    return (Extension(entry) for entry in entry_points(group=GROUP) if _is_name(entry.name))


def _executables(path: str) -> Iterator[Executable]:
    for folder in path.split(os.pathsep):
        try:
            names = sorted(name for name in os.listdir(folder or ".") if name.startswith(PREFIX))
        except OSError:  # PATH may name anything
            continue
        for name in names:
            file = shutil.which(name, path=folder)
            if file is not None and _is_name(name.removeprefix(PREFIX)):
                yield Executable(name.removeprefix(PREFIX), file)
