"""What of a prompt a small world knows."""

import json

import pytest
import torch

from configs.errors import UserError
from models.checkpoint import Checkpoint
from models.words import KnownWords
from tests.places import SHIPPED
from training.captions import PRESETS, known_words

KINDS = {"places": ["desert", "snow"], "cars": ["red", "blue"]}
WORDS = KnownWords(
    KINDS, frozenset(["a", "the", "red", "blue", "car", "in", "desert", "snow", "drives"])
)
KNOWS = "This world knows places (desert, snow); cars (red, blue)"


@pytest.mark.parametrize("prompt", ["A red car drives in the SNOW.", "desert", "Blue!"])
def test_of_a_prompt_that_is_known_nothing_is_said(prompt):
    assert WORDS.notice(prompt) == ""


@pytest.mark.parametrize(
    ("prompt", "said"),
    [
        ("a pink elephant in the desert", f"not known here: pink, elephant. {KNOWS}"),
        ("pink pink, PINK! car", f"not known here: pink. {KNOWS}"),
        ("沙漠中的红色汽车", f"nothing of this prompt is known here. {KNOWS}"),
        ("🚗🌵", f"nothing of this prompt is known here. {KNOWS}"),
        ("10 000", f"nothing of this prompt is known here. {KNOWS}"),
    ],
)
def test_what_is_not_known_is_named_with_what_is(prompt, said):
    assert WORDS.notice(prompt) == said


def test_a_long_prompt_gives_a_short_line():
    line = WORDS.notice("red " + " ".join(f"w{'x' * i}" for i in range(1000)))
    assert "and 994 more" in line and len(line) < 400


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", '{"kinds": [], "words": []}', '{"kinds": {"a": [1]}, "words": []}',
     '{"kinds": {}, "words": "x"}', '{"kinds": {"a": "b"}, "words": ["x"]}', "[" * 5000],
)  # fmt: skip
def test_a_broken_list_is_refused_in_one_line(content, tmp_path):
    file = tmp_path / "words.json"
    file.write_text(content)
    with pytest.raises(UserError, match="words.json") as refusal:
        KnownWords.read(file)
    assert "\n" not in str(refusal.value)


def test_the_embedded_world_knows_its_presets_and_says_so_of_other_prompts():
    shipped = json.loads((SHIPPED / "stage3" / "words.json").read_text())
    assert shipped == known_words()
    words = KnownWords.read(SHIPPED / "stage3" / "words.json")
    assert [words.notice(prompt) for prompt in PRESETS] == [""] * len(PRESETS)
    assert words.notice("A red car drives on a desert road in daylight.") == ""
    assert "dragon" in words.notice("a dragon in the forest"), "heard in training, but meaningless"
    assert "moon, elephant" not in words.notice("a pink elephant on the moon")
    assert "pink, elephant" in words.notice("a pink elephant on the moon")


def test_the_text_encoder_says_it():
    encoder = Checkpoint.open(SHIPPED / "stage4").text_encoder(torch.device("cpu"), torch.float32)
    assert "elephant" in encoder.encode(["an elephant in the snow", ""]).notice
    assert encoder.encode(["a red car in the snow at night"]).notice == ""
