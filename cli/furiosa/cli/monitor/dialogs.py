"""What is asked and told in front of the tables."""

from typing import ClassVar, Final

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Static

HELP: Final = """\
Tab, Shift+Tab     next pane, the one before
↑ ↓ j k            move; PgUp, PgDn, Home, End
Enter              everything about the row
s, S               sort by the next column; turn the order round
/                  filter: rows with each of these words; Esc ends it
c                  show the cores of the cards, or not
d, u               drain the card; end that
x                  revoke the lease
p, Space           pause
+, -               a longer interval, a shorter one
q, Ctrl+C          quit

USE is the share of the interval in which a device was in use;
a history shows one interval for each column, the newest at the
right: use from 0 to 100%, temperature from 20 to 100°C."""


class Told(ModalScreen[None]):
    """A text, until a key says it was read."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,enter,q,question_mark,space", "dismiss", priority=True)
    ]

    def __init__(self, title: str, text: str) -> None:
        super().__init__()
        self._title, self._text = title, text

    def compose(self) -> ComposeResult:
        with VerticalScroll(classes="dialog") as box:
            box.border_title = self._title
            box.border_subtitle = "Esc close"
            yield Static(self._text, markup=False)


class Asked(ModalScreen[bool]):
    """A question that only `y` says yes to."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "answer(True)", priority=True),
        Binding("n,escape,q", "answer(False)", priority=True),
    ]

    def __init__(self, title: str, text: str) -> None:
        super().__init__()
        self._title, self._text = title, text

    def compose(self) -> ComposeResult:
        with VerticalScroll(classes="dialog") as box:
            box.border_title = self._title
            box.border_subtitle = "y yes, n no"
            yield Static(self._text, markup=False)

    def action_answer(self, answer: bool) -> None:
        self.dismiss(answer)
