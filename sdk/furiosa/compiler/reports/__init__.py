"""Reports for people: a drawing of the ldfg, a page about memory and time of the gir.

Pure functions from an IR to text, equal for equal graphs. What the page shows: docs/compiler/reports.md.
"""

from furiosa.compiler.reports.graph import dot_graph
from furiosa.compiler.reports.page import memory_report

__all__ = ["dot_graph", "memory_report"]
