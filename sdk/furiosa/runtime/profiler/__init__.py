"""Where the time of inferences goes: spans of calls, executions and single operators.

    with open("trace.json", "w") as file, profile(file=file) as profiler:
        with profiler.record("warm up"):
            runner.run(image)
        runner.run(image)

The trace opens in ui.perfetto.dev and chrome://tracing. Operators are measured one by one in the first 32
inferences of a model and then in one of twelve. Source: runtime reference 10.
"""

from furiosa.runtime.profiler.recorder import RecordFormat, Resource, profile

__all__ = ["RecordFormat", "Resource", "profile"]
