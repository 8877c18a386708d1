"""Which library runs the tasks: asyncio (also on uvloop), or trio."""

import asyncio
import sys


def on_trio() -> bool:
    """Whether the calling task is one of trio, which whoever runs it has imported."""
    in_trio_task = getattr(sys.modules.get("trio.lowlevel"), "in_trio_task", None)
    return in_trio_task is not None and in_trio_task()


def event_loop() -> object:
    """What runs the calling task: two tasks of the same one can wake each other."""
    if on_trio():
        from trio.lowlevel import current_trio_token

        return current_trio_token()
    return asyncio.get_running_loop()
