"""What a run says in the terminal: stages, figures and notices on stderr, one line each, or one
JSON object each."""

import copy
import json
import logging
import sys
import time
from collections.abc import Mapping
from typing import Any

from pipeline.qr import qr_lines
from pipeline.stage.audience import Event

logger = logging.getLogger(__name__)


class Console:
    """``as_json`` is for machines that read logs. Result paths go to stdout, everything else to
    stderr."""

    def __init__(self, as_json: bool = False) -> None:
        self._as_json = as_json
        self._begun = time.monotonic()
        self._about = ""

    def about(self, name: str) -> "Console":
        """The same terminal, for lines about one of several worlds."""
        other = copy.copy(self)
        other._about = name
        return other

    def say(self, kind: str, text: str, **data: Any) -> None:
        """One line now."""
        if self._about:
            text = f"{self._about}: {text}"
            data["world"] = self._about
        logger.info("%s: %s", kind, one_line(text))
        if self._as_json:
            line = json.dumps(
                {"time": round(time.time(), 3), "event": kind, "message": text, **data}
            )
        else:
            line = f"[{time.monotonic() - self._begun:6.1f} s] {one_line(text)}"
        print(line, file=sys.stderr, flush=True)

    def code(self, address: str) -> None:
        """An address for a phone's camera, where a person looks on."""
        if not self._as_json and sys.stderr.isatty():
            print(*qr_lines(address), "a phone in this network opens it", sep="\n", file=sys.stderr)

    def result(self, path: object) -> None:
        """A file that was made."""
        print(path, flush=True)

    def hear(self, event: Event) -> None:
        """Say what a person wants to know of an event of the show."""
        data = event.data
        if event.kind == "status" and data["stage"] != "starting":
            percent = "" if data["percent"] is None else f" {data['percent']:3.0f} %"
            self.say("stage", f"{data['stage']}:{percent} {data['message']}", stage=data["stage"])
        elif event.kind == "notice":
            self.say("notice", data["message"], level=data["level"])
        elif event.kind == "record" and data["state"] != "failed":  # of that a notice tells
            self.say("record", f"recording {data['name']} {data['state']}")
        elif event.kind == "reset" and data["epoch"]:
            self.say(
                "reset", f"world of seed {data['seed']}", seed=data["seed"], epoch=data["epoch"]
            )
        elif event.kind == "prompt" and data["state"] == "failed":
            self.say("prompt", f"prompt refused: {data['message']}")

    def stats(self, stats: Mapping[str, Any]) -> None:
        """The line of figures."""
        control, step, decode = (
            stats[name] for name in ("control_to_frame_ms", "step_ms", "decode_ms")
        )
        text = (
            f"{stats['state']}: {stats['fps_shown']:.1f} FPS shown, {stats['fps_generated']:.1f} generated, "
            f"median/95 % in ms: control to frame {_pair(control)}, step {_pair(step)}, "
            f"decode {_pair(decode)}; {stats['late_slots']} late slots, {stats['stalls']} stalls, "
            f"{stats['restarts']} restarts, {stats['viewers']} watching"
        )
        self.say("stats", text, **(dict(stats) if self._as_json else {}))


def one_line(text: str) -> str:
    """Text from outside, unable to forge a second line or move the cursor."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def _pair(percentiles: Mapping[str, float | None]) -> str:
    middle, high = percentiles["p50"], percentiles["p95"]
    return "-" if middle is None or high is None else f"{middle:.0f}/{high:.0f}"
