"""Compiler configuration keys: their types, and what happens to other things."""

from typing import Any

import pytest

from furiosa.compiler import CompilerConfig, CompilerOptions, InvalidConfig
from furiosa.compiler.config import KEYS
from furiosa.compiler.options import MAX_ATTEMPTS, Search
from furiosa.tools.compiler.cache.key import key_of

GOOD: dict[str, Any] = {
    "permute_input": [[0, 3, 1, 2], [0]],
    "allow_precision_error": True,
    "remove_lower": False,
    "remove_unlower": True,
    "keep_unsignedness": True,
    "split_unit": 0,
    "sa_malloc": True,
    "use_program_loading": True,
}
PERMUTE = "'permute_input': expected list of list of int, one for each input"


def test_every_key_is_a_field_and_every_field_a_key() -> None:
    assert list(KEYS) == list(GOOD) == list(CompilerConfig.__slots__)


def test_values_are_taken_as_they_are() -> None:
    config = CompilerConfig.from_mapping(GOOD)
    assert config.permute_input == ((0, 3, 1, 2), (0,))
    assert {key: getattr(config, key) for key in GOOD if key != "permute_input"} == {
        key: value for key, value in GOOD.items() if key != "permute_input"
    }
    assert CompilerConfig.from_mapping({}) == CompilerConfig()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"remove_lower": 1}, "'remove_lower': expected bool, found int"),
        ({"remove_unlower": "true"}, "'remove_unlower': expected bool, found str"),
        ({"sa_malloc": None}, "'sa_malloc': expected bool, found NoneType"),
        ({"split_unit": True}, "'split_unit': expected int, found bool"),
        ({"split_unit": 0.0}, "'split_unit': expected int, found float"),
        (
            {"permute_input": [0, 1]},
            f"{PERMUTE}, found list of int",
        ),
        (
            {"permute_input": [[0], [True]]},
            f"{PERMUTE}, found list of list of int and list of bool",
        ),
    ],
)
def test_a_wrong_type_is_named_with_what_was_expected(given: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidConfig) as caught:
        CompilerConfig.from_mapping(given)
    assert str(caught.value) == f"compiler config: {message}"


def test_an_unknown_key_is_an_error() -> None:
    with pytest.raises(
        InvalidConfig, match="unknown key 'remove_upper': choose from permute_input, "
    ):
        CompilerConfig.from_mapping({"remove_upper": True})
    with pytest.raises(InvalidConfig, match=r"unknown key 3: "):
        CompilerConfig.from_mapping({3: True})  # type: ignore[dict-item]  # YAML makes such keys


def test_a_removed_key_says_what_to_do() -> None:
    with pytest.raises(InvalidConfig, match=r"'without_quantize' was removed: let .*ModelEditor"):
        CompilerConfig.from_mapping({"without_quantize": {"parameters": []}})


def test_keys_that_exclude_each_other() -> None:
    with pytest.raises(InvalidConfig, match="permute_input and remove_lower exclude each other"):
        CompilerConfig(permute_input=((0,),), remove_lower=True)


def test_every_key_is_part_of_a_cache_key() -> None:
    configs = [CompilerConfig()]
    for key, value in GOOD.items():
        other = {"remove_lower": True, "split_unit": 3}.get(key, value)
        configs.append(CompilerConfig.from_mapping({key: other}))
    keys = {key_of(b"model", CompilerOptions(config=config)) for config in configs}
    keys.add(key_of(b"model", CompilerOptions(search=Search(seed=1))))
    assert len(keys) == len(GOOD) + 2


def test_the_search_is_off_unless_asked_for() -> None:
    assert CompilerOptions().allocation is None
    assert CompilerOptions(config=CompilerConfig(sa_malloc=True)).allocation == Search()
    asked = CompilerOptions(config=CompilerConfig(sa_malloc=True), search=Search(attempts=7))
    assert asked.allocation == Search(attempts=7)
    for attempts in (0, MAX_ATTEMPTS + 1):
        with pytest.raises(InvalidConfig, match=f"invalid number of attempts {attempts}"):
            Search(attempts=attempts)
