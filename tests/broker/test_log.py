import logging

import pytest

from furiosa.broker.log import event


def test_fields_are_plain_words_or_quoted(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        event(logging.getLogger("x"), "lease.granted", lease="5f3a", device="npu0pe0-1", pid=4)
        event(logging.getLogger("x"), "session.ended", logging.WARNING, cause='a "b"\nc', empty="")
    assert [record.getMessage() for record in caplog.records] == [
        "lease.granted lease=5f3a device=npu0pe0-1 pid=4",
        'session.ended cause="a \\"b\\"\\nc" empty=""',
    ]
    assert caplog.records[1].levelno == logging.WARNING
