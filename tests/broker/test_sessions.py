"""Who is connected."""

from furiosa.broker.sessions import Session, Sessions
from support.owners import FakeOwner


def test_a_session_is_found_by_its_token_while_it_lives() -> None:
    opened: list[Session] = []
    gone: list[str] = []
    counts: list[int] = []
    sessions = Sessions(opened.append, lambda _, cause: gone.append(cause), counts.append)
    session = sessions.open(FakeOwner(), "test", lambda _: None)
    assert sessions.by_token(session.token) is session
    assert sessions.of_process(4242) is session
    for _ in range(2):
        sessions.close(session, "it left")
    assert sessions.by_token(session.token) is None
    assert (opened, gone, counts) == ([session], ["it left"], [1, 0])


def test_what_a_client_calls_itself_is_fit_for_a_log() -> None:
    sessions = Sessions(lambda _: None, lambda _, cause: None, lambda _: None)
    session = sessions.open(FakeOwner(), "\x1b[2J\n" + "x" * 60_000, lambda _: None)
    assert session.client == "?[2J?" + "x" * 123
