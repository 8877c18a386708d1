"""Like `engines`, in a module that starts a thread when it is imported, as some libraries do."""

import threading

from support.engines import load

__all__ = ["load"]

threading.Thread(target=threading.Event().wait, daemon=True).start()
