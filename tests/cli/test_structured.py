import json
from typing import Any

import pytest

from furiosa.cli.render.json_ import json_text
from furiosa.cli.render.yaml_ import yaml_text


def test_json_is_one_compact_line_with_letters_as_they_are() -> None:
    assert json_text([{"a": "54°C", "b": [1, 2]}]) == '[{"a":"54°C","b":[1,2]}]\n'


def test_json_has_no_terminal_codes_and_stays_the_same_text() -> None:
    value = "\x1b[2J\x7f\x9b\u2028한"
    text = json_text([value])
    assert text == '["\\u001b[2J\\u007f\\u009b\u2028한"]\n'
    assert json.loads(text) == [value]


@pytest.mark.parametrize(
    ("document", "text"),
    [
        ([], "[]\n"),
        ([{"a": "x", "b": 4242}, {"a": "z", "b": 0}], "- a: x\n  b: 4242\n- a: z\n  b: 0\n"),
        (
            [{"npu": "npu0", "cores": [{"idx": 0, "status": "available"}], "files": ["npu0"]}],
            "- npu: npu0\n  cores:\n  - idx: 0\n    status: available\n  files:\n  - npu0\n",
        ),
        ([{"a": [], "b": {}, "c": {"d": "e"}}], "- a: []\n  b: {}\n  c:\n    d: e\n"),
    ],
)
def test_yaml_is_in_block_style(document: Any, text: str) -> None:
    assert yaml_text(document) == text


@pytest.mark.parametrize(
    "text",
    [
        "1.7.3, 0a1b2c3", "492:0", "0000:3b:00.0", "54°C", "0.99 W", "N/A", "WBYB0000000000000",
        "00000000-0000-0000-0000-000000000000", "occupied by npu0pe0-1", "./run -n 10 a#b x:y",
        "/usr/bin/python3 -c it's", "1.2.3", "0x", "e5", "trueish", "한글",
    ],
)  # fmt: skip
def test_yaml_leaves_text_plain_where_it_can(text: str) -> None:
    assert yaml_text([text]) == f"- {text}\n"


@pytest.mark.parametrize(
    ("text", "quoted"),
    [
        ("", '""'),
        ("true", '"true"'),
        ("No", '"No"'),
        ("null", '"null"'),
        ("~", '"~"'),
        ("4242", '"4242"'),
        ("-1.5e3", '"-1.5e3"'),
        (".5", '".5"'),
        ("0x1F", '"0x1F"'),
        ("0b1", '"0b1"'),
        ("<<", '"<<"'),
        (".inf", '".inf"'),
        ("- a", '"- a"'),
        ("[a]", '"[a]"'),
        ("a: b", '"a: b"'),
        ("a:", '"a:"'),
        ("a #b", '"a #b"'),
        (" a", '" a"'),
        ("a ", '"a "'),
        ("'a'", "\"'a'\""),
        ('"a\\', '"\\"a\\\\"'),
        ("a\nb\tc", '"a\\nb\\tc"'),
        ("\x1b\x9b\u2028\U000e0001", '"\\x1b\\x9b\\u2028\\U000e0001"'),
    ],
)
def test_yaml_quotes_what_would_be_read_as_something_else(text: str, quoted: str) -> None:
    assert yaml_text([text]) == f"- {quoted}\n"
