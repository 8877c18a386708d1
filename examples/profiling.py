"""Where the time of inferences goes: tables on the terminal, and a trace to look at.

    python examples/profiling.py trace.json

Open the trace in https://ui.perfetto.dev or chrome://tracing.
"""

import sys

import digits
from furiosa.runtime.profiler import RecordFormat, profile
from furiosa.runtime.sync import create_runner


def main(trace: str) -> None:
    images = digits.images()
    with (
        create_runner(digits.int8_model(), device="warboy(2)*1") as runner,
        profile(format=RecordFormat.PandasDataFrame) as profiler,
    ):
        with profiler.record("warm up", warm_up=True):  # the first run is not like the others
            runner.run([images[0]])
        with profiler.record("ten images"):
            for image in images[:10]:
                runner.run([image])

    print("Operators on the NPU")
    profiler.print_npu_operators()
    profiler.print_summary()
    spans = profiler.get_pandas_dataframe()
    print(f"{len(spans)} spans; the longest:")
    print(spans.nlargest(5, "dur")[["cat", "name", "dur"]].to_string(index=False))
    profiler.export_chrome_trace(trace)
    print(f"open {trace} in https://ui.perfetto.dev")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: profiling.py TRACE.json")
    main(sys.argv[1])
