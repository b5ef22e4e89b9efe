"""Records of a journal: they come back as they were, and nothing else is taken for one."""

import itertools
import json
import os
import random
import time
import zlib

import pytest

from actors.journal.records import (
    Asked,
    Began,
    Ended,
    Head,
    Made,
    Record,
    Recorded,
    Shown,
    read_last,
    read_records,
    write_record,
)
from actors.journal.story import Story
from configs.errors import UserError

MUTATIONS = int(os.environ.get("MUTATIONS", "5000"))
HEAD = Head("tiny/stage4", "ab" * 16, "torch-fp32", 1.75e9, "ab12", "first", "Ann’s world")
DRIVE: list[Record] = [
    HEAD,
    Began(0, 0, 7, "a red car"),
    Made(0, "D", ""),
    Made(1, "DL*2", 'an ‘old’ road at night \\ "'),
    Shown(0),
    Asked("snow"),
    Recorded("/home/me/drive one.mp4"),
    Made(3, "D", ""),
    Shown(2),
    Made(4, "D,DR", "snow"),
    Began(1, 0, 8, "hills"),
    Made(0, "DL", ""),
    Recorded(""),
    Ended(),
]


def log(records: list[Record]) -> bytes:
    return b"".join(map(write_record, records))


def told(records: list[Record]) -> Story:
    story = Story()
    for record in records:
        if not isinstance(record, Head):
            story.take(record)
    return story


def test_they_come_back() -> None:
    assert list(read_records(log(DRIVE))) == DRIVE
    assert read_last(log(DRIVE)[-40:]) == Ended() and read_last(log(DRIVE)[:-1]) is None
    for record in DRIVE:
        assert write_record(record).count(b"\n") == 1


def test_a_head_that_does_not_say_whose_it_is_is_read_too() -> None:
    older = (
        '{"kind": "head", "format": 1, "model": "m", "weights": "w", "engine": "e", "begun": 1.0}'
    )
    assert list(read_records(framed(older))) == [Head("m", "w", "e", 1.0)]
    for whose in ({"world": "../x"}, {"launcher": "A"}, {"world": 5}, {"name": "a\nb"}, {"x": ""}):
        with pytest.raises(UserError, match="expected"):
            list(read_records(framed(json.dumps({**json.loads(older), **whose}))))


def test_what_is_cut_off_anywhere_is_not_there() -> None:
    data = log(DRIVE)
    ends = list(itertools.accumulate(len(write_record(record)) for record in DRIVE))
    for cut in range(ends[0], len(data)):
        whole = sum(end <= cut for end in ends)
        assert list(read_records(data[:cut])) == DRIVE[:whole]
        assert list(read_records(data[:cut] + bytes(len(data) - cut))) == DRIVE[:whole]
    for cut in range(ends[0]):
        with pytest.raises(UserError, match="not the log"):
            list(read_records(data[:cut]))


@pytest.mark.parametrize("junk", [b"\n", bytes(1), b"0000ffff 00000000 \n"])
def test_junk_behind_a_log_is_told_at_once(junk: bytes) -> None:
    whole, begun = log(DRIVE), time.monotonic()
    with pytest.raises(UserError, match=f"damaged at byte {len(whole)}, with more after it"):
        list(read_records(whole + junk * ((60 << 20) // len(junk))))
    assert list(read_records(whole + junk * ((1 << 16) // len(junk)))) == DRIVE
    assert time.monotonic() - begun < 5


def test_what_they_tell() -> None:
    story = told(DRIVE[:10])
    assert (story.seed, story.labels) == (7, ["D", "DL", "DL", "D", "D", "DR"])
    assert [latent for latent, _ in story.prompts] == [0, 1, 4] and story.prompt == "snow"
    assert (story.shown, story.asked, story.recording) == (2, "", "/home/me/drive one.mp4")
    assert told(DRIVE[:8]).asked == "snow"
    story = told(DRIVE)
    assert (story.stream, story.seed, story.labels, story.ended) == (1, 8, ["DL"], True)


def test_a_shortened_log_tells_the_same_from_there_on() -> None:
    whole = told(DRIVE[:10])
    for first in range(7):
        short = told(list(read_records(log([HEAD, *whole.records(first)])))[1:])
        assert short.first == first and short.labels == whole.labels[first:]
        assert (short.next, short.prompt, short.recording) == (6, "snow", whole.recording)
        assert short.shown == (2 if first <= 2 else -1)
        for latent in range(first, 6):
            now = [[text for at, text in each.prompts if at <= latent] for each in (short, whole)]
            assert now[0][-1] == now[1][-1]
    assert told(list(whole.records(0))) == whole


WRONG: dict[str, list[Record]] = {
    "where 1 was expected": [Began(0, 0, 1, "a"), Made(0, "D", ""), Made(2, "D", "")],
    "latent 0 follows where 1": [Began(0, 0, 1, "a"), Made(0, "D", ""), Made(0, "D", "")],
    "did not begin": [Made(0, "D", "")],
    "before it was made": [Began(0, 0, 1, "a"), Made(0, "D", ""), Shown(1)],
    "within one": [Began(0, 0, 1, "a"), Began(1, 5, 1, "a")],
    "after the end": [Began(0, 0, 1, "a"), Ended(), Ended()],
}


@pytest.mark.parametrize("message", WRONG)
def test_a_story_with_a_gap_is_one_line(message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        told(WRONG[message])
    assert "\n" not in str(error.value)


def framed(text: str) -> bytes:
    """Any JSON with a right length and checksum."""
    return b"%08x %08x %s\n" % (len(text.encode()), zlib.crc32(text.encode()), text.encode())


FOREIGN = {
    "expected a record": '{"kind": "made"}',
    "found 'null'|found 'None'": "null",
    "expected a JSON object": "{",
    "seed": '{"kind": "began", "stream": 0, "latent": 0, "seed": -1, "prompt": "a"}',
    "prompt": '{"kind": "asked", "prompt": "\\u0000"}',
    "control label|expected one of": '{"kind": "made", "latent": 0, "labels": "X", "prompt": ""}',
    "latent": '{"kind": "shown", "latent": 99999999999}',
    "a line of text": '{"kind": "recorded", "path": "a\\nb"}',
    "two of them": write_record(HEAD).decode()[18:-1],
    "format 2; this version reads 1": '{"kind": "head", "format": 2}',
}


@pytest.mark.parametrize("message", FOREIGN)
def test_a_foreign_record_is_one_line(message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        list(read_records(write_record(HEAD) + framed(FOREIGN[message])))
    assert "\n" not in str(error.value) and len(str(error.value)) < 200


def test_damage_with_whole_records_after_it_is_said() -> None:
    lines = log(DRIVE).splitlines(keepends=True)
    for broken in range(1, len(lines) - 1):
        data = bytearray(b"".join(lines))
        data[sum(map(len, lines[:broken])) + 20] ^= 4
        with pytest.raises(UserError, match="damaged at byte"):
            list(read_records(bytes(data)))


def test_no_mutation_is_told_as_something_else() -> None:
    """A changed byte, a cut, a repeat, a foreign stretch: one UserError, or the first part of what
    was written."""
    whole, rng, refused = log(DRIVE), random.Random(0), 0
    for _ in range(MUTATIONS):
        data, at = bytearray(whole), rng.randrange(len(whole))
        match rng.randrange(5):
            case 0:
                data[at] = rng.randrange(256)
            case 1:
                del data[at : at + rng.choice((1, 2, 60, 400))]
            case 2:
                data[at:at] = data[at : at + rng.choice((1, 7, 300))]
            case 3:
                data[at:at] = rng.choice((b"\n", b"9", b"\x00" * 40, b"00000002 00000000 {}\n"))
            case _:
                del data[at:]
        try:
            found = list(read_records(bytes(data)))
            told(found)
        except UserError as error:
            refused += 1
            assert "\n" not in str(error) and len(str(error)) < 300
        else:
            assert found == DRIVE[: len(found)] or len(found) == len(DRIVE) - 1
    assert refused > MUTATIONS / 5
