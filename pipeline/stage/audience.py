"""What viewers get: the newest frame (latest wins) and every event (none lost), each at their own
speed."""

import asyncio
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from actors.source import Motion

EVENT_LIMIT: Final = 4096  # a viewer that reads nothing this long is gone: its subscription ends


@dataclass(frozen=True)
class ShownFrame:
    """One frame at the moment it is shown.

    ``image`` is uint8 [H, W, 3] RGB, read-only. ``index`` counts frames of the world since its
    reset, ``latent`` is the latent it came from; ``cursor``, ``label``, ``prompt`` and
    ``prompt_version`` are those **conditioned into it**. ``stamps`` maps stage -> monotonic
    seconds: received (of the control; only on its first frame), asked, sampled, step_start, step_end,
    decode_start, decode_end, arrived (in the gateway's process), shown. A missing stage was not
    measured. ``motion``: where the world knows it."""

    epoch: int
    index: int
    latent: int
    image: np.ndarray
    label: str
    cursor: int
    prompt: str
    prompt_version: int
    stamps: Mapping[str, float] = field(default_factory=dict)
    motion: Motion | None = None


@dataclass(frozen=True)
class Event:
    """Something every viewer hears once. ``data`` is plain JSON. Kinds and their data:

    ===========  ==========================================================================================
    status       stage, percent (null = unknown), message, seconds: progress of starting, and of a rebuild
    notice       level ("info" | "warning" | "error"), message, about ("speed", "" or as of actors.source.Notice)
    receipt      cursor, label, frame, latent, epoch: the first frame that control conditioned is shown now; controls
                 with a lower cursor that had no receipt were superseded by it
    prompt       version, text, state ("pending" | "shown" | "failed"), message (of a failure)
    reset        epoch, seed, prompt
    rewound      epoch, seed, prompt, latent: the first that follows; the world went back, or another was opened
    paused       paused (bool)
    record       state ("started" | "stopped" | "failed"), name, seconds, message
    stats        see Show.stats(), once a second
    bye          reason: the show ends
    ===========  ==========================================================================================
    """

    kind: str
    data: Mapping[str, Any]


class Subscription:
    """One viewer's view of the show. Use from the show's event loop only.

    A typical writer: ``while await sub.wait(): send(sub.events()); frame = sub.frame(); if frame:
    send(frame)``."""

    def __init__(self, viewer: bool = True) -> None:
        # False: somebody who is not counted among those that watch, like the terminal
        self.viewer = viewer
        self.dropped = 0  # frames replaced by a newer one before this viewer took them
        self._ready = asyncio.Event()
        self._events: deque[Event] = deque()
        self._frame: ShownFrame | None = None
        self._closed = False

    async def wait(self) -> bool:
        """Return True once an event or a new frame waits, False once the subscription is closed and
        emptied."""
        await self._ready.wait()
        return not self._closed or bool(self._events)

    def events(self) -> list[Event]:
        """Take all waiting events, oldest first."""
        events = list(self._events)
        self._events.clear()
        self._settle()
        return events

    def frame(self) -> ShownFrame | None:
        """Take the newest frame, or None when it was taken already."""
        frame, self._frame = self._frame, None
        self._settle()
        return frame

    @property
    def closed(self) -> bool:
        return self._closed

    def close(self) -> None:
        """End it; waiting readers wake up. Idempotent."""
        self._closed = True
        self._frame = None
        self._ready.set()

    def offer(self, frame: ShownFrame) -> bool:
        """Called by the show: replace the frame that waits; True if that one is lost to this
        viewer."""
        if self._closed:
            return False
        lost = self._frame is not None
        self.dropped += lost
        self._frame = frame
        self._ready.set()
        return lost

    def tell(self, event: Event) -> None:
        """Called by the show: queue an event."""
        if self._closed:
            return
        if len(self._events) >= EVENT_LIMIT:
            self.close()
            return
        self._events.append(event)
        self._ready.set()

    def _settle(self) -> None:
        if not self._closed and not self._events and self._frame is None:
            self._ready.clear()


class Audience:
    """All subscriptions of one show."""

    def __init__(self) -> None:
        self.dropped = 0  # frames that members did not take in time
        self.newest: ShownFrame | None = None
        self._members: set[Subscription] = set()

    @property
    def viewers(self) -> int:
        """Open subscriptions of those that watch."""
        return sum(member.viewer for member in self._present())

    def join(self, *past: Event, viewer: bool = True) -> Subscription:
        """A new subscription that starts with the events ``past`` and the newest frame."""
        subscription = Subscription(viewer)
        for event in past:
            subscription.tell(event)
        if self.newest is not None:
            subscription.offer(self.newest)
        self._members.add(subscription)
        return subscription

    def tell(self, kind: str, **data: Any) -> None:
        """Send an event to everybody."""
        event = Event(kind, data)
        for member in self._present():
            member.tell(event)

    def warn(self, message: str, about: str = "") -> None:
        """Tell everybody, once, of something that is not as it should be."""
        self.tell("notice", level="warning", message=message, about=about)

    def offer(self, frame: ShownFrame) -> None:
        """Offer a frame to everybody; who joins later starts with it."""
        self.newest = frame
        for member in self._present():
            self.dropped += member.offer(frame)

    def dismiss(self) -> None:
        """Close every subscription."""
        for member in self._present():
            member.close()

    def _present(self) -> tuple[Subscription, ...]:
        self._members = {member for member in self._members if not member.closed}
        return tuple(self._members)
