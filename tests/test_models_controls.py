"""Labels, parsing and the seeded random rule."""

import pytest

from configs.errors import UserError
from models.controls import (
    LABELS,
    NULL_ID,
    SENTENCES,
    label_id,
    parse_signal,
    random_signal,
    reduce_raw,
)


def test_nine_labels_have_their_rows() -> None:
    assert [label_id(label) for label in LABELS] == list(range(9)) and NULL_ID == 9
    assert SENTENCES[label_id("NL")] == "The car is coasting in neutral and turning left."


def test_parse_lists_and_runs() -> None:
    assert parse_signal("D,DL") == ["D", "DL"]
    assert parse_signal("D*3, DL*2 ,B") == ["D", "D", "D", "DL", "DL", "B"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "D,",
        ",D",
        "D,,D",
        "X",
        "d",
        "D*0",
        "D*-1",
        "D*",
        "D*1.5",
        "D*1000001",
        "D*999999,D*9",
        "D;DL",
        "\uff24",
        "D\n",
        "D" * 99,
    ],
)
def test_bad_signals_are_one_line(text: str) -> None:
    with pytest.raises(UserError) as error:
        parse_signal(text)
    assert str(error.value).startswith("control signal: item") and "\n" not in str(error.value)
    assert len(str(error.value)) < 250


def test_a_signal_must_be_text_of_bounded_size() -> None:
    with pytest.raises(UserError, match="expected text"):
        parse_signal(7)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="at most"):
        parse_signal("D," * 1_000_000)


@pytest.mark.parametrize("label", ["", "X", "d", None, 3])
def test_unknown_label(label: object) -> None:
    with pytest.raises(UserError, match="unknown control label"):
        label_id(label)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("seed", "expected"),
    [(42, "D*5,DR*5,D*3,DR*4"), (1, "D*4,DL*5,D*3,DL*4,D"), (0, "D*3,DR*2,D*5,DR*5,D*2")],
)
def test_random_signal_check_values(seed: int, expected: str) -> None:
    assert random_signal(17, seed) == parse_signal(expected)
    assert random_signal(0, seed) == []


def test_raw_signals_keep_every_fourth_label() -> None:
    assert reduce_raw(["D", "B", "B", "B", "DL"]) == ["D", "DL"]


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("d", "did you mean 'D'"),
        ("D,dl*4", "did you mean 'DL*4'"),
        ("W", "the key W is the label D"),
        ("A*8", "the key A is the label DL"),
        ("S", "the key S is the label B"),
        ("LEFT", "the key LEFT is the label DL"),
        ("UP*3", "the key UP is the label D"),
        ("X", ""),
    ],
)
def test_what_was_meant_is_said(text: str, hint: str) -> None:
    with pytest.raises(UserError, match="control signal: item") as error:
        parse_signal(text)
    assert hint in str(error.value) and "\n" not in str(error.value)
    assert hint or "did you mean" not in str(error.value)


def test_a_list_is_told_how_to_become_text() -> None:
    with pytest.raises(UserError, match=r'","\.join'):
        parse_signal(["D", "DL"])  # type: ignore[arg-type]
