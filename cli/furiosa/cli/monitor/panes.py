"""A table on the screen, with a cursor."""

from collections.abc import Sequence
from typing import Final

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget

from furiosa.cli.monitor.grid import Grid, Line, Text, Tone, closed
from furiosa.cli.monitor.rows import Row
from furiosa.cli.monitor.text import fit
from furiosa.cli.monitor.view import COLUMNS, FIRST_ORDERS, Cursor, Order, Pane, Shown

STYLES: Final = {  # the terminal's own colours: they suit its background, and 16 are enough
    Tone.PLAIN: Style(),
    Tone.DIM: Style(dim=True),
    Tone.TITLE: Style(bold=True),
    Tone.GOOD: Style(color="green"),
    Tone.WARM: Style(color="yellow"),
    Tone.BAD: Style(color="red", bold=True),
    Tone.MARK: Style(color="cyan"),
}
_SELECTED: Final = Style(reverse=True)
_ACTIVE: Final = Style(color="cyan", bold=True)
ABOVE: Final = 2  # lines above the rows: the title and the head


class PaneView(Widget, can_focus=True):
    """One line of title; below it, when there are rows, their head and as many of them as fit."""

    class Touched(Message):
        """The cursor was moved, or the pane chosen, by mouse."""

    def __init__(self, pane: Pane) -> None:
        super().__init__(id=pane.name.lower())
        self.pane = pane
        self.order = Order(FIRST_ORDERS[pane])
        self.rows: list[Row] = []
        self.cursor = Cursor()
        self.widths: tuple[int | None, ...] = ()
        self._height = 0
        self._lines: list[Line] = []

    @property
    def selected(self) -> Row | None:
        return self.rows[self.cursor.at] if self.rows else None

    def show(self, shown: Shown, width: int) -> None:
        rows, height = shown.rows, shown.height
        self.rows, self._height = rows, height
        self.cursor = self.cursor.on(rows, height)
        grid = Grid.of(COLUMNS[self.pane], [row.cells for row in rows], width)
        self.widths = grid.widths
        top = self.cursor.top
        hidden = f", {top + 1} to {top + height} in sight" if 0 < height < len(rows) else ""
        lines = [_title(f"{self.pane.value} {shown.said}{hidden}", width)]
        if rows and height:
            lines.append(grid.head(self.order.column, descending=self.order.descending))
            lines += [grid.line(row.cells) for row in rows[top : top + height]]
        wanted = len(lines)
        if self.styles.height is None or self.styles.height.value != wanted:
            self.styles.height = wanted
        self._lines = lines
        self.refresh()

    def move(self, by: int) -> None:
        self.cursor = self.cursor.moved(self.rows, by, self._height)

    def page(self) -> int:
        return max(1, self._height - 1)

    def render_line(self, y: int) -> Strip:
        if y >= len(self._lines):
            return Strip.blank(self.size.width)
        line, style = self._lines[y], None
        if y == 0 and self.has_focus:
            style = _ACTIVE
        elif y >= ABOVE and self.has_focus and y - ABOVE + self.cursor.top == self.cursor.at:
            style = _SELECTED
        return Strip([Segment(text.text, style or STYLES[text.tone]) for text in line])

    def on_click(self, event: events.Click) -> None:
        if event.y >= ABOVE:
            self.move(self.cursor.top + event.y - ABOVE - self.cursor.at)
        self.post_message(self.Touched())

    def on_mouse_scroll_down(self) -> None:
        self.move(1)
        self.post_message(self.Touched())

    def on_mouse_scroll_up(self) -> None:
        self.move(-1)
        self.post_message(self.Touched())


class Bar(Widget):
    """Texts in one line: from the left and from the right; the left ones give way."""

    def __init__(self, id: str) -> None:
        super().__init__(id=id)
        self._left: tuple[Text, ...] = ()
        self._right = ""
        self._style = Style()

    def show(self, left: Sequence[Text], right: str = "", *, style: Style | None = None) -> None:
        self._left, self._right, self._style = tuple(left), right, style or Style()
        self.refresh()

    def render_line(self, y: int) -> Strip:
        width = self.size.width
        right = f" {self._right}" if self._right else ""
        line = closed([*self._left], max(0, width - len(right)))
        segments = [Segment(text.text, self._style + STYLES[text.tone]) for text in line]
        return Strip([*segments, Segment(right, self._style)]).crop(0, width)


def _title(text: str, width: int) -> Line:
    rest = max(0, width - len(text) - 4)
    return (Text(fit(f"── {text} {'─' * rest}", width), Tone.DIM),)
