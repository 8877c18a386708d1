"""Parameters of the genetic optimisation: text, types, and the search they ask for."""

from typing import Any

import pytest

from furiosa.compiler import InvalidConfig
from furiosa.compiler.options import MAX_ATTEMPTS, Search
from furiosa.tools.compiler.genetic import GeneticParams

TEXT = (
    "population_size=10,generation_limit=3,max_prefetch_size=0,nondeterministic=false,"
    "pin_tensors=true,init_tactic=random"
)
VALUES: dict[str, Any] = {
    "population_size": 10,
    "generation_limit": 3,
    "max_prefetch_size": 0,
    "nondeterministic": False,
    "pin_tensors": True,
    "init_tactic": "random",
}


def test_text_and_mapping_say_the_same() -> None:
    assert GeneticParams.parse(TEXT) == GeneticParams.from_mapping(VALUES)
    assert GeneticParams.parse("population_size=7") == GeneticParams(population_size=7)


def test_the_search_has_a_bound_and_a_fixed_seed() -> None:
    assert GeneticParams.parse(TEXT).search == Search(30, seed=0, is_random_start=True)
    large = GeneticParams(population_size=1 << 30, generation_limit=1 << 30)
    assert large.search.attempts == MAX_ATTEMPTS


def test_nondeterministic_takes_another_seed_each_time() -> None:
    params = GeneticParams(nondeterministic=True)
    assert len({params.search.seed for _ in range(4)}) > 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected KEY=VALUE, found ''"),
        ("population_size", "expected KEY=VALUE, found 'population_size'"),
        (
            "population_size=0",
            "'population_size': expected an int from 1 to 1099511627776, found 0",
        ),
        (
            "population_size=-1",
            "'population_size': expected an int from 1 to 1099511627776, found '-1'",
        ),
        (
            "generation_limit=true",
            "'generation_limit': expected an int from 1 to 1099511627776, found True",
        ),
        (
            "max_prefetch_size=1.5",
            "'max_prefetch_size': expected an int from 0 to 1099511627776, found '1.5'",
        ),
        ("nondeterministic=1", "'nondeterministic': expected true or false, found 1"),
        ("pin_tensors=True", "'pin_tensors': expected true or false, found 'True'"),
        ("init_tactic=best", "'init_tactic': expected random or heuristic, found 'best'"),
        ("init_tactic=random,init_tactic=random", "'init_tactic' is given twice"),
    ],
)
def test_what_is_wrong_is_named(text: str, message: str) -> None:
    with pytest.raises(InvalidConfig) as caught:
        GeneticParams.parse(text)
    assert str(caught.value) == f"genetic optimization: {message}"


def test_an_unknown_key_is_an_error() -> None:
    with pytest.raises(InvalidConfig, match="unknown key 'size': choose from population_size, "):
        GeneticParams.from_mapping({"size": 1})
