"""What a world may begin with."""

import pytest

from configs.errors import UserError
from pipeline.beginning import Beginning


def test_a_prompt_is_one_line_and_a_name_may_be_anybodys():
    beginning = Beginning("  a red\ncar ", 7, name="Ann’s lab, No. 3 (Äpfel)")
    assert (beginning.prompt, beginning.seed) == ("a red car", 7)
    assert Beginning("a car", 0).name == ""


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"prompt": "  "}, "prompt"),
        ({"prompt": "x" * 5000}, "prompt"),
        ({"seed": -1}, "seed"),
        ({"seed": 2**53}, "seed"),
        ({"seed": True}, "seed"),
        ({"name": "../../etc/passwd"}, "name"),
        ({"name": "a/b"}, "name"),
        ({"name": ".hidden"}, "name"),
        ({"name": "a\x00b"}, "name"),
        ({"name": "x" * 61}, "name"),
        ({"name": "two\nlines"}, "name"),
    ],
)
def test_what_no_world_can_begin_with_is_one_line(settings, complaint):
    with pytest.raises(UserError, match=complaint) as refusal:
        Beginning(**{"prompt": "a car", "seed": 1, **settings})
    assert "\n" not in str(refusal.value)
