from furiosa.cli.render.table import Align, Column, Table, draw
from furiosa.cli.render.values import celsius, watts

NAME, HEAT = Column("Name"), Column("Temp.", Align.RIGHT)


def test_a_table_without_rows_is_its_head() -> None:
    assert draw(Table((NAME, HEAT), ())) == (
        "+------+-------+\n"
        "| Name | Temp. |\n"
        "+------+-------+\n"
    )  # fmt: skip


def test_every_row_has_a_border_below_and_numbers_stand_right() -> None:
    assert draw(Table((NAME, HEAT), (("a", "9°C"), ("warboy", "100°C")))) == (
        "+--------+-------+\n"
        "| Name   | Temp. |\n"
        "+--------+-------+\n"
        "| a      |   9°C |\n"
        "+--------+-------+\n"
        "| warboy | 100°C |\n"
        "+--------+-------+\n"
    )


def test_a_degree_sign_is_one_column_and_a_korean_letter_two() -> None:
    assert draw(Table((Column("A"),), (("한글",), ("54°C",), ("e\u0301",)))) == (
        "+------+\n"
        "| A    |\n"
        "+------+\n"
        "| 한글 |\n"
        "+------+\n"
        "| 54°C |\n"
        "+------+\n"
        "| e\u0301    |\n"
        "+------+\n"
    )  # fmt: skip


def test_only_titles_are_bold_and_the_box_stays_straight() -> None:
    assert draw(Table((NAME, HEAT), (("warboy", "9°C"),)), bold=True) == (
        "+--------+-------+\n"
        "| \x1b[1mName\x1b[0m   | \x1b[1mTemp.\x1b[0m |\n"
        "+--------+-------+\n"
        "| warboy |   9°C |\n"
        "+--------+-------+\n"
    )


def test_terminal_codes_in_a_value_are_shown_not_sent() -> None:
    drawn = draw(Table((Column("CMD"),), (("\x1b]0;x\x07 a\nb \x9b2J \u202e",),)))
    assert "| \\x1b]0;x\\x07 a\\nb \\x9b2J \\u202e |" in drawn
    assert "\x1b" not in drawn


def test_temperature_is_in_whole_degrees() -> None:
    assert [celsius(value) for value in (54_000, 53_600, 53_400, -400, None)] == [
        "54°C", "54°C", "53°C", "0°C", "N/A",
    ]  # fmt: skip


def test_power_has_two_decimals() -> None:
    assert [watts(value) for value in (990_000, 0, 39_996_000, None)] == [
        "0.99 W", "0.00 W", "40.00 W", "N/A",
    ]  # fmt: skip
