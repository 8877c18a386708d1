"""The live view: samples and keys in, tables out."""

import asyncio
import signal
import threading
import time
from typing import ClassVar, Final

from rich.style import Style
from textual import events
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.message import Message
from textual.widgets import Input

from furiosa.cli.exitcodes import ExitCode
from furiosa.cli.monitor import acts
from furiosa.cli.monitor.dialogs import HELP, Asked, Told
from furiosa.cli.monitor.grid import Text, Tone
from furiosa.cli.monitor.history import History
from furiosa.cli.monitor.panes import Bar, PaneView
from furiosa.cli.monitor.rows import NameOf, cards, leases, waiters
from furiosa.cli.monitor.sample import Sample
from furiosa.cli.monitor.source import Lost, Source
from furiosa.cli.monitor.view import COLUMNS, Order, Pane, plan
from furiosa.cli.render.table import printable
from furiosa.common.errors import FuriosaError
from furiosa.common.views import DeviceView, LeaseView, Origin

INTERVALS: Final = (100, 200, 500, 1000, 2000, 5000, 10_000, 30_000, 60_000)  # ms, for + and -
_BARS: Final = 3  # lines: head, detail, keys
_FILTER: Final = "words that rows must have; Enter keeps them, Esc drops them"
_BANNER: Final = Style(color="red", bold=True, reverse=True)
_KEYS: Final = (
    *(("q", "quit"), ("?", "help"), ("/", "filter"), ("s", "sort"), ("d", "drain")),
    *(("x", "revoke"), ("p", "pause"), ("Tab", "next pane")),
)
_BY_KEY: Final = {
    "ctrl+c": "interrupt",
    "q": "leave",
    "ctrl+z": "suspend_process",
    "question_mark,h": "help",
    "p,space": "pause",
    "plus,equals_sign": "interval(1)",
    "minus": "interval(-1)",
    "s": "sort",
    "S": "turn",
    "slash": "filter",
    "escape": "unfilter",
    "c": "cores",
    "d": "drain",
    "u": "undrain",
    "x,delete": "revoke",
    "enter": "detail",
    "up,k": "move(-1)",
    "down,j": "move(1)",
    "pageup": "page(-1)",
    "pagedown": "page(1)",
    "home,g": "move(-100000)",
    "end,G": "move(100000)",
    "tab": "focus_next",
    "shift+tab": "focus_previous",
}


class Monitor(App[ExitCode]):
    """Starts `source`, and closes it at the end. `broker` says which one it is."""

    ENABLE_COMMAND_PALETTE = False
    TITLE = "furiosactl monitor"
    CSS = """
    Screen { background: ansi_default; color: ansi_default; overflow: hidden hidden; }
    Bar { height: 1; }
    #banner { display: none; }
    #foot { dock: bottom; height: 2; }
    #filter { display: none; height: 1; background: ansi_default; color: ansi_default; }
    ModalScreen { align: center middle; background: transparent; }
    .dialog {
        width: 76; max-width: 95%; height: auto; max-height: 90%; padding: 0 1;
        border: round ansi_cyan; background: ansi_default; color: ansi_default;
    }
    .dialog Static { height: auto; background: ansi_default; }
    Toast { background: ansi_default; color: ansi_default; border: round ansi_cyan; padding: 0 1; }
    Toast.-error { border: round ansi_red; }
    """
    # looked up before a key is passed on: keys that come at once are taken in their order
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding(keys, action, priority=True) for keys, action in _BY_KEY.items()
    ]

    class News(Message):
        """From the thread of the source."""

        def __init__(self, news: Sample | Lost) -> None:
            super().__init__()
            self.news = news

    class Done(Message):
        """An act has ended."""

        def __init__(self, said: str, *, failed: bool) -> None:
            super().__init__()
            self.said, self.failed = said, failed

    def __init__(self, source: Source, broker: str, name_of: NameOf) -> None:
        super().__init__(ansi_color=True)
        self._source = source
        self._broker = broker
        self._name_of = name_of
        self._history = History()
        self._sample: Sample | None = None
        self._lost = ""
        self._paused = False
        self._at = Pane.CARDS
        self._words = ""  # of the filter
        self._cores: bool | None = None  # None: when they fit

    def compose(self) -> ComposeResult:
        yield Bar("head")
        yield Bar("banner")
        for pane in Pane:
            yield PaneView(pane)
        with Vertical(id="foot"):
            yield Bar("detail")
            yield Input(id="filter", compact=True, placeholder=_FILTER)
            yield Bar("keys")

    def on_mount(self) -> None:
        self.query_one("#cards", PaneView).focus()
        # else the terminal would be left as the view needs it
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self.exit, ExitCode.FAILURE)
        self._source.start(lambda news: self.post_message(self.News(news)))
        self._redraw()

    def on_unmount(self) -> None:
        asyncio.get_running_loop().remove_signal_handler(signal.SIGTERM)
        self._source.close()

    def on_monitor_news(self, message: News) -> None:
        match message.news:
            case Lost(why):
                self._lost = why
            case Sample() as sample:
                self._lost = ""
                self._sample = sample
                if sample.is_measured:
                    self._history.record(sample)
        self._redraw()

    def on_monitor_done(self, message: Done) -> None:
        self._say(printable(message.said), failed=message.failed)

    def on_resize(self) -> None:
        self.call_later(self._redraw)  # the size is not taken up yet

    def on_descendant_focus(self, event: events.DescendantFocus) -> None:
        if isinstance(event.widget, PaneView):
            self._at = event.widget.pane
        self._redraw()

    def on_pane_view_touched(self) -> None:
        self._redraw()

    def on_input_changed(self, event: Input.Changed) -> None:
        self._words = event.value
        self._redraw()

    def on_input_submitted(self) -> None:
        self._close_filter()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool:
        """Keys of the view count while no dialog is open and no filter is typed."""
        if action == "interrupt":
            return True
        if len(self.screen_stack) > 1:
            return False
        return action == "unfilter" or not isinstance(self.focused, Input)

    def action_leave(self) -> None:
        self.exit(ExitCode.OK)

    def action_interrupt(self) -> None:
        self.exit(ExitCode.INTERRUPTED)

    def action_help(self) -> None:
        self.push_screen(Told("Keys", HELP))

    def action_pause(self) -> None:
        self._paused = not self._paused
        self._source.pause(self._paused)
        self._redraw()

    def action_interval(self, by: int) -> None:
        now = self._source.interval_ms
        longer = [step for step in INTERVALS if step > now]
        shorter = [step for step in INTERVALS if step < now]
        if by > 0 and longer:
            self._source.interval_ms = longer[0]
        elif by < 0 and shorter:
            self._source.interval_ms = shorter[-1]
        self._redraw()

    def action_sort(self) -> None:
        view = self._pane()
        view.order = view.order.next(COLUMNS[view.pane], view.widths)
        self._redraw()

    def action_turn(self) -> None:
        view = self._pane()
        view.order = Order(view.order.column, not view.order.descending)
        self._redraw()

    def action_filter(self) -> None:
        box = self.query_one("#filter", Input)
        box.display = True
        self.query_one("#keys").display = False
        self.screen.set_focus(box)

    def action_unfilter(self) -> None:
        self.query_one("#filter", Input).value = ""
        self._close_filter()

    def action_cores(self) -> None:
        shown = self.query_one("#cards", PaneView).rows  # cores have nothing below
        self._cores = all(row.below for row in shown)
        self._redraw()

    def action_move(self, by: int) -> None:
        self._pane().move(by)
        self._redraw()

    def action_page(self, by: int) -> None:
        self.action_move(by * self._pane().page())

    def action_detail(self) -> None:
        if (row := self._pane().selected) is not None:
            self.push_screen(Told(self._pane().pane.value, printable(row.detail)))

    def action_drain(self) -> None:
        device = self._subject(Pane.CARDS)
        if isinstance(device, DeviceView) and self._sample is not None:
            self._ask(acts.drain(device, self._sample))

    def action_undrain(self) -> None:
        device = self._subject(Pane.CARDS)
        if isinstance(device, DeviceView):
            self._do(acts.undrain(device))

    def action_revoke(self) -> None:
        lease = self._subject(Pane.LEASES)
        if isinstance(lease, LeaseView):
            self._ask(acts.revoke(lease))
        elif lease is not None:
            self._say("it is held without a lease: there is none to revoke", failed=True)

    def _subject(self, pane: Pane) -> object:
        """What the cursor is on; None: nothing, or another pane has the focus, which is said."""
        if self._pane().pane is not pane:
            self._say(f"choose a row of {pane.value} first (Tab)", failed=True)
            return None
        row = self._pane().selected
        return None if row is None else row.subject

    def _say(self, text: str, *, failed: bool) -> None:
        """In a corner for some seconds, in place of what was said before."""
        self.clear_notifications()
        self.notify(text, severity="error" if failed else "information", markup=False)

    def _ask(self, act: acts.Act) -> None:
        def answered(yes: bool | None) -> None:
            if yes:
                self._do(act)

        self.push_screen(Asked(act.title, act.question), answered)

    def _do(self, act: acts.Act) -> None:
        """In a thread of its own: a drain takes as long as the grace of those who hold the card."""

        def run() -> None:
            try:
                done = self.Done(self._source.act(act.do), failed=False)
            except (FuriosaError, OSError) as exc:
                done = self.Done(str(exc), failed=True)
            self.post_message(done)

        threading.Thread(target=run, daemon=True).start()

    def _pane(self) -> PaneView:
        """The one with the focus; while a filter is typed, that which had it."""
        base = self.screen_stack[0]
        if isinstance(base.focused, PaneView):
            return base.focused
        return base.query_one(f"#{self._at.name.lower()}", PaneView)

    def _close_filter(self) -> None:
        self.query_one("#filter", Input).display = False
        self.query_one("#keys").display = True
        self.screen.set_focus(self._pane())
        self._redraw()

    def _redraw(self) -> None:
        views = {view.pane: view for view in self.screen_stack[0].query(PaneView)}
        if len(views) < len(Pane):
            return  # not composed yet
        sample = self._sample or Sample(time.time(), is_measured=False)
        width, height = self.size
        shown = plan(
            {
                Pane.CARDS: cards(sample, self._history),
                Pane.LEASES: leases(sample, self._name_of),
                Pane.WAITERS: waiters(sample, self._name_of),
            },
            {pane: view.order for pane, view in views.items()},
            self._words,
            height - _BARS - bool(self._lost),
            cores=self._cores,
        )
        for pane, view in views.items():
            view.show(shown[pane], width)
        self._redraw_bars(sample)

    def _redraw_bars(self, sample: Sample) -> None:
        base = self.screen_stack[0]
        interval = f"every {self._source.interval_ms / 1e3:g} s"
        clock = time.strftime("%H:%M:%S", time.localtime(sample.at))
        emulated = any(device.origin is Origin.EMULATED for device in sample.devices)
        left = [Text(f" {self.TITLE}", Tone.TITLE)]
        if self._words:
            left.append(Text(f"  filter: {printable(self._words)}", Tone.MARK))
        if emulated:
            left.append(Text("  virtual cards", Tone.WARM))
        left.append(Text(f"  {printable(self._broker)}", Tone.DIM))
        state = "paused" if self._paused else interval
        base.query_one("#head", Bar).show(left, f"{state}  {clock} ")
        banner = base.query_one("#banner", Bar)
        banner.display = bool(self._lost)
        banner.show([Text(f" {printable(self._lost)}; trying again")], style=_BANNER)
        row = self._pane().selected
        base.query_one("#detail", Bar).show([Text(f" {printable(row.detail)}" if row else "")])
        keys = [
            part for key, does in _KEYS for part in (Text(f" {key}", Tone.MARK), Text(f" {does} "))
        ]
        base.query_one("#keys", Bar).show(keys)
