import json

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from furiosa.telemetry.exposition import render

TENANT = 'a "b"\\\nc'
NUMBERS = json.dumps(
    [
        ["f_grants", "counter", "Grants", ["tenant"], [[[TENANT], 3], [["x"], 4]]],
        ["f_cores", "gauge", "Cores", [], [[[], 2.5]]],
        ["f_wait", "histogram", "Wait", [], [[[], [["0.1", 1], ["+Inf", 3]], 7.5]]],
    ]
).encode()


@pytest.mark.parametrize(
    ("accept", "content_type", "parse"),
    [
        ("", "text/plain; version=0.0.4", parse_text),
        ("text/html, */*;q=0.8", "text/plain; version=0.0.4", parse_text),
        # what Prometheus sends
        ("application/openmetrics-text;version=1.0.0;q=0.5,text/plain;q=0.3",
         "application/openmetrics-text; version=1.0.0", parse_openmetrics),
        ("application/openmetrics-text; version=\r\nx: y", "application/openmetrics-text", parse_openmetrics),
    ],
)  # fmt: skip
def test_both_forms_say_what_the_broker_said(
    accept: str, content_type: str, parse: "type[object]"
) -> None:
    page, found = render(NUMBERS, accept)
    assert found.startswith(content_type)
    assert found.isprintable()
    samples = {
        (s.name, *s.labels.values()): s.value
        for family in parse(page.decode())  # type: ignore[call-arg, attr-defined]
        for s in family.samples
    }
    assert samples == {
        ("f_grants_total", TENANT): 3, ("f_grants_total", "x"): 4, ("f_cores",): 2.5,
        ("f_wait_bucket", "0.1"): 1, ("f_wait_bucket", "+Inf"): 3,
        ("f_wait_count",): 3, ("f_wait_sum",): 7.5,
    }  # fmt: skip


@pytest.mark.parametrize("numbers", [b"", b"{", b"[[1]]", b'[["a","summary","",[],[]]]'])
def test_numbers_of_no_sense_are_an_error(numbers: bytes) -> None:
    with pytest.raises((ValueError, KeyError)):
        render(numbers, "")
