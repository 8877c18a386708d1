"""What a program must meet before anyone runs it: a list of rules.

A rule yields a message for each violation; the message names the instruction, buffer or field and the
value found. Rules run in order and stop at the first message, so each may assume those before it.
"""

from collections.abc import Callable, Iterator
from typing import Final

from furiosa.common.errors import InvalidProgram
from furiosa.enf import instruction_rules, lifetime_rules, table_rules
from furiosa.enf.limits import DEFAULT_LIMITS, Limits
from furiosa.enf.program import Program

Rule = Callable[[Program, Limits], Iterator[str]]

RULES: Final[tuple[Rule, ...]] = (
    table_rules.target_is_known,
    table_rules.counts_are_bounded,
    table_rules.names_are_bounded,
    table_rules.shapes_are_bounded,
    table_rules.constants_have_a_used_type,
    table_rules.buffers_fit_their_space,
    table_rules.ports_are_sound,
    table_rules.sections_cover_the_instructions,
    table_rules.host_sections_are_sound,
    instruction_rules.operands_are_present,
    instruction_rules.operands_exist,
    instruction_rules.pes_are_of_the_target,
    instruction_rules.windows_are_sound,
    instruction_rules.types_and_shapes_agree,
    instruction_rules.zero_points_and_clamps_are_in_range,
    instruction_rules.multipliers_are_in_range,
    instruction_rules.indices_are_inside,
    instruction_rules.accumulators_fit_int32,
    lifetime_rules.buffers_are_written_once_before_reading,
    lifetime_rules.live_buffers_are_disjoint,
)


def verify(program: Program, limits: Limits = DEFAULT_LIMITS) -> None:
    """Raises: InvalidProgram with the name of the first broken rule."""
    for rule in RULES:
        for message in rule(program, limits):
            raise InvalidProgram(rule.__name__.replace("_", "-"), message)
