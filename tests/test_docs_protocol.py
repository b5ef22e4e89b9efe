"""docs/protocol.md says what the code does: the header's bytes, every message of both directions,
the limits."""

import asyncio
import re
import struct

import pytest

from models.controls import LABELS
from pipeline.web import allowance, messages, quality, room, server, site, viewer, wheel
from pipeline.web.site import PAGE
from tests.live import live, socket
from tests.places import ROOT

TEXT = (ROOT / "docs" / "protocol.md").read_text()
SIZES = {"2 bytes": "2s", "u8": "B", "u16": "H", "u32": "I", "f64": "d"}


def rows(after: str) -> list[list[str]]:
    """Cells of the first table behind some words, without its two lines of heading."""
    lines = TEXT[TEXT.index(after) :].splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("|"))
    table = []
    for line in lines[start:]:
        if not line.startswith("|"):
            break
        table.append([cell.strip() for cell in line.strip("|").split("|")])
    return table[2:]


def kinds(after: str) -> set[str]:
    """Message types in the first column of a table."""
    return {name for row in rows(after) for name in re.findall(r"`(\w+)`", row[0])}


def test_the_header_has_the_documented_bytes():
    fields = rows("### Frames")
    layout = "!" + "".join(SIZES[kind] for _, kind, *_ in fields)
    assert struct.calcsize(layout) == messages.HEADER_BYTES
    offset = 0
    for place, kind, *_ in fields:
        assert int(place) == offset
        offset += struct.calcsize("!" + SIZES[kind])
    header = messages.FrameHeader(
        label="BL",
        quality=60,
        width=144,
        height=96,
        epoch=3,
        frame=0,
        cursor=17,
        prompt_version=2,
        clock=1.5,
    )
    values = dict(zip((field[2] for field in fields), struct.unpack(layout, header.pack())))
    assert values["magic"] == b"MX" and values["version"] == values["codec"] == values["flags"] == 1
    assert LABELS[values["control"]] == "BL" and (values["width"], values["height"]) == (144, 96)
    named = [
        values[name] for name in ("quality", "epoch", "frame", "cursor", "prompt version", "clock")
    ]
    assert named == [60, 3, 0, 17, 2, 1.5]
    assert ", ".join(LABELS) in TEXT and all(str(rung) in TEXT for rung in quality.RUNGS)


def test_every_message_of_a_client_is_documented():
    anyone, driver = kinds("Client to server, from anyone"), kinds("From the driver only")

    async def whole():
        async with live() as theatre, socket(theatre.port), socket(theatre.port) as watcher:
            await watcher.say("fly")
            known = re.findall(
                r"\w+", (await watcher.hear("error"))["message"].split("expected one of")[1]
            )
            assert set(known) | {"hello"} == anyone | driver
            for kind in sorted(driver):
                await watcher.say(kind)
                assert "take control first" in (await watcher.hear("error"))["message"], kind
            assert "take_control" in anyone and "hello" in anyone

    asyncio.run(whole())
    assert all(f"`{key}`" in TEXT for key in messages.KEYS)


def test_every_message_of_the_server_is_documented_and_understood_by_the_page():
    script = (PAGE / "app.js").read_text()
    table = script[script.index("const hear = {") : script.index('link.addEventListener("message"')]
    understood = set(re.findall(r"^  (\w+)\(", table, re.M)) | {
        "pong"
    }  # the link keeps that one to itself
    assert kinds("Server to client:") == understood
    assert (
        set(re.findall(r"`(\w+)`", TEXT[TEXT.index("`received`, `applied`") :].split(" tell ")[0]))
        == viewer._CUMULATIVE
    )


@pytest.mark.parametrize(
    "words",
    [
        f"{messages.LONGEST_MESSAGE // 1000} 000 characters",
        f"{server.LARGEST_MESSAGE // 1024} KiB",
        f"{allowance.RATE:.0f} messages a second",
        f"{room.MOST_VIEWERS} clients a world and {room.KEPT_SEATS} more that may drive",
        f"{server.REQUEST_SECONDS:.0f} s for a request's header",
        f"{viewer.FULL_BACKLOG} messages wait",
        f"after {wheel.SILENCE:.0f} s of silence",
    ],
)
def test_the_limits_are_the_documented_ones(words):
    assert words in TEXT
    assert (
        site.HELLO_SECONDS == server.REQUEST_SECONDS
        and allowance.LONGEST_EXCESS == 10
        and viewer.FRAMES_IN_FLIGHT == 2
    )
