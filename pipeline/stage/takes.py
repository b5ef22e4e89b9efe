"""The drives that a run follows first, and what made them."""

from collections.abc import Sequence
from dataclasses import replace

from actors.source import Take
from configs.errors import UserError


def logged_engine(takes: Sequence[Take]) -> str | None:
    """The engine that made these takes, None if nobody knows. Raises UserError for several: one run
    has one."""
    names = sorted(_engines(takes))
    if len(names) > 1:
        raise UserError(
            f"replay: its takes were made with {' and '.join(names)}; say --engine NAME for all"
        )
    return names[0] if names else None


def followed_by(take: Take, labels: Sequence[str], prompt: str) -> Take:
    """``take`` and then ``labels``, under its last prompt (``prompt`` if it has none)."""
    last = take.prompts[-1] if take.prompts else prompt
    return replace(
        take, labels=(*take.labels, *labels), prompts=(*take.prompts, *(last,) * len(labels))
    )


def other_engine(takes: Sequence[Take], name: str) -> str:
    """A warning where these takes were made with another engine than this one; "" where not."""
    others = sorted(_engines(takes) - {name})
    if not others:
        return ""
    return (
        f"warning: the drive was made with engine {', '.join(others)}; with {name} its frames are "
        "close, not equal"
    )


def _engines(takes: Sequence[Take]) -> set[str]:
    """What made these takes, as far as it is known."""
    return {take.engine for take in takes} - {""}
