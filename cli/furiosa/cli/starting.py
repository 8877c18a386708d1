"""What comes before a command can handle Ctrl+C: the import of what it is made of."""

import contextlib
import signal
import threading
from collections.abc import Iterator


@contextlib.contextmanager
def starting() -> Iterator[None]:
    """The body imports. Ctrl+C in it ends the process as it ends any other program: without a traceback.

    No effect outside the main thread, and where SIGINT is ignored or handled already.
    """
    is_ours = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if not is_ours or threading.current_thread() is not threading.main_thread():
        yield
        return
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
