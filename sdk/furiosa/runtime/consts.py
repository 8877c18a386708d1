"""Deprecated, as upstream, and empty: no name of it was ever published."""

from furiosa.runtime._deprecated import warn_of_module

__all__: list[str] = []

warn_of_module(__name__)
