"""The live view, key by key, at the sizes of usual terminals."""

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from furiosa.cli.exitcodes import ExitCode
from furiosa.cli.monitor.app import Monitor
from furiosa.cli.monitor.sample import Sample
from furiosa.cli.monitor.source import Lost
from furiosa.common.errors import NotAllowed
from furiosa.common.names import DeviceFile
from furiosa.common.views import Origin, ProcessView
from support.shown_devices import ShownBroker
from support.shown_samples import HeldSource, a_card, a_sample, a_use, screen, two_cards

if TYPE_CHECKING:
    from textual.pilot import Pilot

SMALL, LARGE = (80, 24), (200, 50)


class Watched:
    """A view of `two_cards`, for as long as a test lasts."""

    def __init__(self, size: tuple[int, int] = SMALL, sample: Sample | None = None) -> None:
        self._size, self._sample = size, sample or two_cards()
        self.source = HeldSource(ShownBroker(states=(self._sample.overview,)))
        self.app = Monitor(self.source, "unix:/b.sock", {1000: "ada", 1001: "bob"}.__getitem__)

    async def __aenter__(self) -> "Watched":
        self._running = self.app.run_test(size=self._size, notifications=True)
        self.pilot: Pilot[ExitCode] = await self._running.__aenter__()
        await self.tell(self._sample)
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._running.__aexit__(None, None, None)

    async def tell(self, news: Sample | Lost) -> list[str]:
        self.source.tell(news)
        await self.pilot.pause()
        return self.lines

    async def press(self, *keys: str) -> list[str]:
        await self.pilot.press(*keys)
        await self.pilot.pause()
        return self.lines

    async def until(self, reached: Callable[[list[str]], bool]) -> list[str]:
        """For what other threads do."""
        while not reached(self.lines):
            await self.pilot.pause(0.01)
        return self.lines

    @property
    def lines(self) -> list[str]:
        return screen(self.app)

    def column(self, pane: str, number: int = 0) -> list[str]:
        """Of the rows of that pane."""
        at = next(n for n, line in enumerate(self.lines) if line.startswith(f"── {pane}"))
        rows = []
        for line in self.lines[at + 2 :]:
            if line.startswith("──") or not line:
                break
            rows.append(line.split()[number])
        return rows


async def test_a_small_terminal_shows_all_of_two_cards() -> None:
    async with Watched() as view:
        lines = view.lines
    assert len(lines) == 24
    assert lines[0].startswith(" furiosactl monitor  unix:/b.sock")
    assert lines[1].startswith("── Cards 2 ──")
    assert lines[2].startswith("NPU▲ STATE")
    assert lines[3].startswith("npu0 1/2 cores held")
    assert lines[3].endswith("▂  54°C                 ▄ 0.99 W")
    assert lines[4].startswith(" pe0 occupied")
    assert lines[7].startswith(" pe0 held by npu1pe0-1 100%")
    assert lines[11].startswith("bbbb   npu0pe0   granted bob")
    assert lines[11].endswith("serve --models /etc/識別")
    assert lines[15].startswith("   1 warboy(2)*1 bob")
    assert lines[22].startswith(" npu0: available")
    assert lines[23].startswith(" q quit  ? help  / filter")


@pytest.mark.parametrize("size", [SMALL, LARGE, (40, 12), (20, 5), (120, 30)])
async def test_the_keys_are_at_the_bottom_of_any_terminal(size: tuple[int, int]) -> None:
    sample = a_sample(*(a_card(number) for number in range(8)))
    async with Watched(size, sample) as view:
        assert len(view.lines) == size[1]
        assert view.lines[-1].startswith(" q quit  ? help")


async def test_eight_cards_on_a_small_terminal_have_a_line_each_and_all_on_a_large_one() -> None:
    sample = a_sample(*(a_card(number) for number in range(8)))
    async with Watched(SMALL, sample) as view:
        assert view.column("Cards") == [f"npu{number}" for number in range(8)]
        await view.pilot.resize_terminal(*LARGE)
        await view.pilot.pause()
        assert view.column("Cards")[:4] == ["npu0", "pe0", "pe1", "npu1"]
        assert len(view.column("Cards")) == 24


async def test_a_history_grows_with_each_measurement() -> None:
    async with Watched() as view:
        await view.tell(replace(two_cards(), uses=(a_use("npu0pe0", 1.0),)))
        lines = await view.tell(replace(two_cards(), uses=(), is_measured=False))
        assert "▃█" in lines[4]
        assert "▃█▁" not in lines[4]


async def test_virtual_cards_are_said_to_be_such() -> None:
    async with Watched(SMALL, a_sample(a_card(0, origin=Origin.EMULATED))) as view:
        assert view.lines[0].startswith(" furiosactl monitor  virtual cards")


@pytest.mark.parametrize(("key", "code"), [("q", ExitCode.OK), ("ctrl+c", ExitCode.INTERRUPTED)])
async def test_it_ends_by(key: str, code: ExitCode) -> None:
    async with Watched() as view:
        await view.press(key)
    assert view.app.return_value is code
    assert view.source.broker.closed == 1


async def test_ctrl_c_ends_it_in_a_dialog_too() -> None:
    async with Watched() as view:
        await view.press("d", "ctrl+c")
    assert view.app.return_value is ExitCode.INTERRUPTED


@pytest.mark.parametrize("key", ["question_mark", "h"])
async def test_help_tells_the_keys(key: str) -> None:
    async with Watched() as view:
        assert any("revoke the lease" in line for line in await view.press(key))
        assert not any("revoke the lease" in line for line in await view.press("escape"))


async def test_it_pauses_and_goes_on() -> None:
    async with Watched() as view:
        assert " paused " in (await view.press("p"))[0]
        assert view.source.is_paused
        assert " every 1 s " in (await view.press("space"))[0]
        assert not view.source.is_paused


async def test_the_interval_has_steps_and_ends() -> None:
    async with Watched() as view:
        assert "every 2 s" in (await view.press("plus"))[0]
        assert "every 0.5 s" in (await view.press("minus", "minus"))[0]
        await view.press(*["minus"] * 9)
        assert view.source.interval_ms == 100
        await view.press(*["plus"] * 20)
        assert view.source.interval_ms == 60_000


async def test_rows_are_sorted_by_the_column_that_is_chosen() -> None:
    async with Watched(LARGE) as view:
        await view.press("tab")
        assert view.column("Leases") == ["bbbb", "aaaa"]  # by device
        await view.press("S")
        assert view.column("Leases") == ["aaaa", "bbbb"]
        lines = await view.press(*["s"] * 4)
        assert any(" PID▼" in line for line in lines)
        assert view.column("Leases") == ["bbbb", "aaaa"]
        assert view.column("Cards")[0] == "npu0"  # a pane of its own


async def test_a_filter_counts_for_all_panes_while_it_is_typed() -> None:
    async with Watched() as view:
        lines = await view.press("slash", *"serve")
        assert lines[-1] == "serve"
        assert view.column("Leases") == ["bbbb"]
        assert "npu1" not in view.column("Cards")
        assert "── Waiters 0 of 1" in "".join(lines)
        lines = await view.press("enter")
        assert "filter: serve" in lines[0]
        assert lines[-1].startswith(" q quit")
        await view.press("escape")
        assert view.column("Leases") == ["bbbb", "aaaa"]


async def test_keys_of_commands_are_letters_while_a_filter_is_typed() -> None:
    async with Watched() as view:
        assert (await view.press("slash", *"qdxs"))[-1] == "qdxs"
        assert view.source.broker.done == []


async def test_the_cursor_moves_within_a_pane_and_between_them() -> None:
    async with Watched() as view:
        assert (await view.press("j", "down"))[-2].startswith(" npu0pe1: available")
        assert (await view.press("up", "k"))[-2].startswith(" npu0: ")
        assert (await view.press("end"))[-2].startswith(" npu1pe1: occupied by npu1pe0-1")
        assert (await view.press("home"))[-2].startswith(" npu0: ")
        assert (await view.press("pagedown"))[-2].startswith(" npu1pe1: ")
        assert (await view.press("pageup"))[-2].startswith(" npu0: ")
        assert (await view.press("tab"))[-2].startswith(" bbbb: npu0pe0, granted, pid 5151 of bob")
        assert (await view.press("tab"))[-2].startswith(" warboy(2)*1, waits for npu0pe0 is held")
        assert (await view.press("shift+tab"))[-2].startswith(" bbbb: ")


async def test_the_mouse_chooses_a_row() -> None:
    async with Watched() as view:
        await view.pilot.click("#leases", offset=(3, 3))
        await view.pilot.pause()
        assert view.lines[-2].startswith(" aaaa: ")


async def test_more_rows_than_fit_are_scrolled_and_counted() -> None:
    sample = a_sample(*(a_card(number) for number in range(16)))
    async with Watched(SMALL, sample) as view:
        assert view.lines[1].startswith("── Cards 16 ──")
        await view.pilot.resize_terminal(80, 16)
        await view.pilot.pause()
        assert view.lines[1].startswith("── Cards 16, 1 to 9 in sight")
        lines = await view.press("end")
        assert lines[1].startswith("── Cards 16, 8 to 16 in sight")
        assert view.column("Cards")[-1] == "npu15"


async def test_cores_can_be_hidden_and_shown() -> None:
    async with Watched() as view:
        await view.press("c")
        assert view.column("Cards") == ["npu0", "npu1"]
        await view.press("c")
        assert view.column("Cards") == ["npu0", "pe0", "pe1", "npu1", "pe0", "pe1"]


async def test_everything_about_a_row_can_be_read() -> None:
    lease = two_cards().overview.leases[0]
    long = replace(
        lease, owner=replace(lease.owner, command_line="python3 " + "x" * 90 + " THE-END")
    )
    sample = a_sample(a_card(0), leases=(long,))
    async with Watched(SMALL, sample) as view:
        assert "THE-END" not in "".join(view.lines)
        assert "THE-END" in "".join(await view.press("tab", "enter"))
        assert "THE-END" not in "".join(await view.press("enter"))


async def test_a_drain_names_what_it_takes_and_is_done_on_yes_only() -> None:
    async with Watched() as view:
        text = "\n".join(await view.press("d"))
        assert "Drain npu0?" in text
        assert "bbbb  npu0pe0  pid 5151  serve --models" in text
        assert "aaaa  npu1" not in text
        for key in ("n", "d", "escape", "d", "enter", "n"):
            await view.press(key)
        assert view.source.broker.done == []
        await view.press("d", "y")
        await view.until(lambda lines: "npu0 is drained; 2 leases" in "\n".join(lines))
        assert view.source.broker.done == [("drain", 0, None, "")]


async def test_a_core_stands_for_its_card() -> None:
    async with Watched() as view:
        assert "Drain npu1?" in "\n".join(await view.press("end", "d"))


async def test_a_free_card_is_drained_without_a_victim() -> None:
    async with Watched(SMALL, a_sample(a_card(0))) as view:
        assert "nobody" in "".join(await view.press("d"))


async def test_undrain_asks_nothing() -> None:
    async with Watched() as view:
        await view.press("u")
        await view.until(lambda lines: "npu0 is no longer cordoned" in "\n".join(lines))
        assert view.source.broker.done == [("uncordon", 0)]


@pytest.mark.parametrize("key", ["x", "delete"])
async def test_a_revocation_names_the_lease_and_its_owner(key: str) -> None:
    async with Watched() as view:
        text = "\n".join(await view.press("tab", key))
        assert "Revoke lease bbbb?" in text
        assert "bbbb  npu0pe0  pid 5151  serve --models /etc/識別" in text
        await view.press("y")
        await view.until(lambda lines: "lease bbbb is recalled" in "\n".join(lines))
        assert view.source.broker.done == [("revoke", "bbbb", None, "")]


async def test_a_refusal_is_shown_and_the_view_goes_on() -> None:
    async with Watched() as view:
        view.source.broker.error = NotAllowed("uid:1000", "drain cards")
        await view.press("d", "y")
        await view.until(lambda lines: "may not drain cards" in "\n".join(lines))
        assert (await view.press("tab"))[-2].startswith(" bbbb: ")


@pytest.mark.parametrize(("keys", "pane"), [(("x",), "Leases"), (("tab", "d"), "Cards")])
async def test_what_is_changed_must_be_chosen(keys: tuple[str, ...], pane: str) -> None:
    async with Watched() as view:
        assert f"choose a row of {pane} first" in "\n".join(await view.press(*keys))
        assert view.source.broker.done == []


async def test_a_process_without_a_lease_has_none_to_revoke() -> None:
    foreign = ProcessView(DeviceFile.parse("npu0"), 77, "legacy", "")
    async with Watched(SMALL, a_sample(a_card(0), processes=(foreign,))) as view:
        assert "it is held without a lease" in "\n".join(await view.press("tab", "x"))


async def test_keys_do_no_harm_where_nothing_is() -> None:
    async with Watched(SMALL, a_sample()) as view:
        await view.press(
            "d", "u", "x", "enter", "down", "end", "s", "S", "c", "tab", "x", "pagedown"
        )
        assert view.lines[-1].startswith(" q quit")


async def test_a_lost_broker_is_a_banner_until_it_is_back() -> None:
    async with Watched() as view:
        lines = await view.tell(Lost("no broker at unix:/b.sock: it hung up"))
        assert lines[1] == " no broker at unix:/b.sock: it hung up; trying again"
        assert lines[2].startswith("── Cards 2")  # what was known last
        lines = await view.tell(a_sample(a_card(5)))
        assert lines[1].startswith("── Cards 1")
        assert lines[3].startswith("npu5")


async def test_escape_codes_of_a_command_line_are_shown_not_sent() -> None:
    lease = two_cards().overview.leases[0]
    evil = replace(lease, owner=replace(lease.owner, command_line="a\x1b[2J[red]b"))
    async with Watched(LARGE, a_sample(a_card(0), leases=(evil,))) as view:
        for keys in (("tab",), ("enter",), ("enter", "x")):
            text = "\n".join(await view.press(*keys))
            assert "\x1b" not in text
            assert "a\\x1b[2J[red]b" in text
