"""The wire format: frame headers and client messages, as pure functions."""

import pytest

from actors.source import Take
from configs.errors import UserError
from models.controls import LABELS
from pipeline.web import messages
from pipeline.web.messages import FrameHeader


def test_frame_headers_survive_the_wire():
    header = FrameHeader(
        label="NR",
        quality=60,
        width=720,
        height=480,
        epoch=3,
        frame=2**32 - 1,
        cursor=17,
        prompt_version=2,
        clock=1234.5,
    )
    packed = header.pack()
    assert len(packed) == messages.HEADER_BYTES == 36
    assert messages.unpack_frame(packed + b"jpeg") == (header, b"jpeg")


@pytest.mark.parametrize(
    "data", [b"", b"MX", bytes(100), b"MX\x02\x01" + bytes(60), b"MX\x01\x03" + bytes(60)]
)
def test_foreign_binary_messages_are_refused(data):
    with pytest.raises(ValueError):
        messages.unpack_frame(data)


@pytest.mark.parametrize(
    ("keys", "label"),
    [
        ("", "D"),
        ("straight", "D"),
        ("left", "DL"),
        ("straight right", "DR"),
        ("left right", "D"),
        ("reverse", "B"),
        ("reverse left", "BL"),
        ("coast", "N"),
        ("coast right", "NR"),
        ("reverse coast straight left", "BL"),
    ],
)
def test_held_keys_become_one_label(keys, label):
    given = messages.parse_input({"seq": 1, "keys": keys.split()})
    assert given.label == label and label in LABELS


def test_a_drive_and_its_parts_are_inverse():
    take = Take(7, ("D", "D", "DL", "DL", "B"), ("noon", "noon", "noon", "night", "night"))
    parts = messages.take_parts(take)
    assert parts == [
        {"prompt": "noon", "controls": "D*2,DL"},
        {"prompt": "night", "controls": "DL,B"},
    ]
    assert messages.parse_replay({"seed": 7, "parts": parts}) == take


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "1",
        '"x"',
        "null",
        "{}",
        '{"type": 1}',
        '{"type": "x", "n": NaN}',
        "[" * 9000,
        "é" * 50_000,
        "{" * 600,
    ],
)
def test_what_is_no_message_is_told_so_in_one_line(text):
    with pytest.raises(UserError) as refusal:
        messages.parse_object(text)
    assert str(refusal.value).startswith("message: ") and "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"seq": -1, "keys": []},
        {"seq": True, "keys": []},
        {"seq": 2**60, "keys": []},
        {"seq": 1, "keys": ["up"]},
        {"seq": 1, "keys": "left"},
        {"seq": 1, "keys": [["left"]]},
        {"seq": 1, "keys": ["left"] * 6},
        {"seq": 1, "label": "X"},
        {"seq": 1, "label": "d"},
        {"seq": 1, "label": ["D"]},
        {"seq": 1, "keys": [], "source": "a\nb"},
    ],
)
def test_impossible_inputs_are_refused(fields):
    with pytest.raises(UserError):
        messages.parse_input(fields)


@pytest.mark.parametrize(
    "fields",
    [
        {"seed": 1, "parts": []},
        {"seed": 1, "parts": ["D"]},
        {"seed": -1, "parts": [{"prompt": "x", "controls": "D"}]},
        {"seed": 1, "parts": [{"prompt": "x", "controls": "D,"}]},
        {"seed": 1, "parts": [{"prompt": "", "controls": "D"}]},
        {"seed": 1, "parts": [{"prompt": "x", "controls": "D*14401"}]},
        {"seed": 1, "parts": [{"prompt": "x", "controls": "D*999999"}] * 50},
        {"seed": 1, "parts": [{"controls": "D"}]},
    ],
)
def test_impossible_replays_are_refused(fields):
    with pytest.raises(UserError):
        messages.parse_replay(fields)
