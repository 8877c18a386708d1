"""Arguments that were positional once. Source: runtime reference 8."""

import functools
import inspect
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from furiosa.runtime._deprecated import warn_of_use

_P = ParamSpec("_P")
_T = TypeVar("_T")


def positional_too(function: Callable[_P, _T]) -> Callable[_P, _T]:
    """Takes what is keyword-only by position as well, in the order written, and warns of it."""
    signature = inspect.signature(function)
    anyhow = inspect.Signature(
        [
            p.replace(kind=inspect.Parameter.POSITIONAL_OR_KEYWORD)
            for p in signature.parameters.values()
        ]
    )
    required = sum(p.kind is not p.KEYWORD_ONLY for p in signature.parameters.values())

    @functools.wraps(function)
    def called(*args: _P.args, **options: _P.kwargs) -> _T:
        if len(args) > required:
            what = f"an optional argument of {function.__name__}() by position"
            bound = anyhow.bind(*args, **options)
            warn_of_use(what, "its name")
            return function(**bound.arguments)  # type: ignore[call-arg]  # all by name
        return function(*args, **options)

    return called
