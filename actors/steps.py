"""A step under way, what a new group goes on from, and how the outcome of a step is awaited."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from actors.gang import Gang


@dataclass(frozen=True)
class Prompt:
    """A text in force, and the reference to its embedding."""

    text: str
    version: int
    embedding: Any


@dataclass
class Step:
    """A step under way: what was asked, and the references of what it will give."""

    epoch: int
    index: int
    labels: tuple[str, ...]
    cursor: int
    prompt: Prompt
    sampled: float
    replies: "asyncio.Future[list[Any]] | None" = None
    chunk: Any = None
    state: Any = None
    slices: tuple[Any, ...] = ()
    memories: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Commit:
    """Where a new group goes on: before latent ``index``, from these references. The prompt is the
    one in force."""

    index: int
    prompt: Prompt
    state: Any = None
    memories: tuple[Any, ...] = ()


class Fault(Exception):
    """A gang broke."""

    def __init__(self, gang: Gang, reason: str) -> None:
        super().__init__(f"{gang.name}: {reason}")
        self.gang = gang


def gathered(references: Sequence[Any]) -> "asyncio.Future[list[Any]]":
    """All values, in order. An error that nobody waits for any more (a reset overtook it) makes no
    noise."""
    future = asyncio.ensure_future(_all(references))
    future.add_done_callback(lambda done: done.cancelled() or done.exception())
    return future


async def _all(references: Sequence[Any]) -> list[Any]:
    return list(await asyncio.gather(*references))


async def watched(gang: Gang, outcome: "asyncio.Future[list[Any]]", limit: float) -> list[Any]:
    """The outcome, or Fault when the gang broke or gave nothing for ``limit`` seconds."""
    done, _ = await asyncio.wait({outcome}, timeout=limit)
    if not done:
        raise Fault(gang, f"nothing came for {limit:.0f} s")
    try:
        return outcome.result()
    except Exception as error:
        raise Fault(gang, line(error)) from error


def is_done(future: "asyncio.Future[Any] | None") -> bool:
    return future is not None and future.done()


def line(error: BaseException) -> str:
    """An error as one short line; Ray's own begin with pages about the actor."""
    name = type(error).__name__
    if name in ("ActorDiedError", "ActorUnavailableError"):
        return "a worker process died"
    cause = getattr(error, "cause", None) or error
    text = " ".join(str(cause).split())
    return f"{type(cause).__name__}: {text}"[:300]
