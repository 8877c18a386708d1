"""The same facts for people and for programs."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from furiosa.cli.render.table import Table


class Report:
    """Notes say what the columns of the table cannot."""

    __slots__ = ("document", "notes", "table")

    def __init__(
        self,
        table: Table,
        document: tuple[Mapping[str, Any], ...],
        notes: tuple[str, ...] = (),
    ) -> None:
        self.table = table
        self.document = document
        self.notes = notes
