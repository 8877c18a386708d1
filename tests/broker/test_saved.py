import json
import math
from typing import Any

import pytest

from furiosa.broker.saved import BadState, BrokerState, SavedCall, SavedFrame, SavedSession

SESSION = SavedSession(
    id=7,
    token="secret",
    client="test",
    pid=4242,
    uid=1000,
    gid=100,
    start_time_ticks=123456,
    key=2**63,
    socket="s7",
    pidfd="p7",
    memory="m7",
    thread_id=4242,
    pending=(
        SavedCall(123.25, SavedFrame(b"acquire")),
        SavedCall(124.0, SavedFrame(b"load", ("c7.0",))),
    ),
    received=SavedFrame(b"\0\xff", ("r7.0",)),
    unsent=(SavedFrame(b"half", ()), SavedFrame(b"whole", ("u7.0", "u7.1"))),
)
PLAIN = SavedSession(8, "token", "test", 1, 0, 0, 1, 99, "s8", "p8")


def test_what_is_saved_is_what_is_read() -> None:
    state = BrokerState((SESSION, PLAIN), next_session=42)
    assert BrokerState.from_json(state.to_json()) == state
    assert BrokerState.from_json(BrokerState().to_json()) == BrokerState()


def test_a_session_knows_all_its_descriptors() -> None:
    assert SESSION.descriptors == ("s7", "p7", "m7", "c7.0", "r7.0", "u7.0", "u7.1")
    assert PLAIN.descriptors == ("s8", "p8")


def test_a_token_shows_in_no_log() -> None:
    assert "secret" not in repr(BrokerState((SESSION,)))


def changed(**values: Any) -> bytes:
    data = json.loads(BrokerState((SESSION,)).to_json())
    data["sessions"][0] |= values
    return json.dumps(data).encode()


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"", "not JSON"),
        (b"\xff", "not JSON"),
        (b"[]", "version None, expected 1"),
        (b'{"version":2}', "version 2, expected 1"),
        (b'{"version":1}', "version: expected version, next_session, sessions"),
        (b'{"version":1,"next_session":1,"sessions":{}}', "sessions: dict, expected a list"),
        (b'{"version":1,"next_session":1,"sessions":[7]}', "sessions: int: expected id, pid"),
        (changed(extra=1), "extra: expected"),
        (changed(pid=-1), "sessions: pid: -1, expected a number"),
        (changed(pid=True), "sessions: pid: True, expected a number"),
        (changed(client=None), "sessions: client: None, expected text"),
        (changed(received={"data": "?", "descriptors": []}), "received: data: expected base64"),
        (changed(pending=[{"since": "x", "frame": {}}]), "pending: since: 'x', expected seconds"),
        (changed(pending=[{"since": math.nan, "frame": {}}]), "since: nan, expected seconds"),
        (changed(pending=[{"since": 1}]), "pending: since: expected since, frame"),
        (changed(pidfd="s7"), "two places for one descriptor"),
    ],
)
def test_what_does_not_fit_is_refused_as_a_whole(data: bytes, complaint: str) -> None:
    with pytest.raises(BadState, match=complaint):
        BrokerState.from_json(data)


def test_no_truncated_state_is_taken_for_a_whole_one() -> None:
    data = BrokerState((SESSION,)).to_json()
    for size in range(len(data)):
        with pytest.raises(BadState):
            BrokerState.from_json(data[:size])
