"""What no honest client would say: one message after the other, from a seed."""

import json
import random
from typing import Any

from pipeline.web.messages import KEYS

TYPES = (
    *(
        "hello",
        "input",
        "ack",
        "ping",
        "photon",
        "take",
        "take_control",
        "prompt",
        "reset",
        "replay",
        "record",
        "bye",
    ),
    *("__class__", "../../etc/passwd", ""),
)
FIELDS = (
    *(
        "seq",
        "keys",
        "label",
        "source",
        "epoch",
        "frame",
        "clock",
        "round_trip",
        "ms",
        "prompt",
        "seed",
        "parts",
    ),
    *("model", "on", "client", "type"),
)
VALUES = (
    *(
        None,
        True,
        -1,
        0,
        1,
        2**31,
        2**63,
        10**400,
        -(10**400),
        1.5,
        1e308,
        "",
        "D",
        "DL",
        "left",
        "x" * 5000,
    ),
    *(
        "\u0000",
        "\ud800",
        "<script>alert(1)</script>",
        "';--",
        "../../etc/passwd",
        "\U0001f697",
        "D*16,DL*8",
    ),
    *("D*9999999", "D,", "\u0414", ",".join(["D"] * 9000)),
)


def hostile(random: random.Random) -> str:
    """One message that no honest client sends (or nearly one that it does)."""
    values: list[Any] = [
        *VALUES,
        [],
        {},
        [[]],
        [["left"]],
        ["left"] * 9,
        {"a": {"b": {"c": []}}},
        list(KEYS),
        ["left"],
        [None],
    ]
    choice = random.randrange(10)
    if choice == 0:
        return "".join(
            chr(random.choice((random.randrange(128), random.randrange(0xD7FF))))
            for _ in range(random.randrange(200))
        )
    if choice == 1:
        return random.choice("[{") * random.choice((1, 10, 500, 600, 20_000))
    if choice == 2:
        return json.dumps(random.choice(values))
    message: dict[str, Any] = {
        name: random.choice(values) for name in random.sample(FIELDS, random.randrange(6))
    }
    message["type"] = random.choice(TYPES) if random.random() < 0.95 else random.choice(values)
    if random.random() < 0.1:
        message["parts"] = [
            {"prompt": random.choice(values), "controls": random.choice(values)}
        ] * random.randrange(3)
    text = json.dumps(message)
    if choice == 3:
        cut = random.randrange(len(text) + 1)
        return (
            text[:cut]
            + random.choice(("", "\u0000", "]", "\ufeff"))
            + text[cut + random.randrange(3) :]
        )
    return text.replace("1e+308", "1e999") if choice == 4 else text
