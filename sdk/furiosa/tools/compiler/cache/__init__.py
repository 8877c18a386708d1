"""Results of the compiler, kept for the next time: in a folder or in Redis."""

from furiosa.tools.compiler.cache.cached import compile_cached
from furiosa.tools.compiler.cache.results import Results, open_results
from furiosa.tools.compiler.cache.settings import CacheSettings

__all__ = ["CacheSettings", "Results", "compile_cached", "open_results"]
