"""One viewer's writing side: order, frames in flight, latest wins, bounded memory, isolation from
the others."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import replace

import numpy as np

from pipeline.stage.audience import Audience, Event, ShownFrame
from pipeline.video import decode_jpeg
from pipeline.web.messages import CODEC_H264, CODEC_JPEG, FrameHeader, unpack_frame
from pipeline.web.quality import Pictures
from pipeline.web.viewer import FRAMES_IN_FLIGHT, FULL_BACKLOG, PATIENT_BACKLOG, Viewer
from tests.shown import shown
from tests.until import settled, until


def frame(index: int, epoch: int = 0) -> ShownFrame:
    image = np.full((32, 48, 3), index * 10 % 250, np.uint8)
    return shown(index, image, epoch=epoch)


def large_frames(count: int) -> list[ShownFrame]:
    """So large that they travel as video."""
    return [replace(frame(i), image=np.full((240, 352, 3), 9 * i, np.uint8)) for i in range(count)]


class Wire:
    """The far side of a socket; ``open`` lets sends through."""

    def __init__(self) -> None:
        self.sent: list[dict | int] = []
        self.open = asyncio.Event()
        self.open.set()

    async def text(self, data: str) -> None:
        await self.open.wait()
        self.sent.append(json.loads(data))

    async def binary(self, data: bytes) -> None:
        await self.open.wait()
        self.sent.append(unpack_frame(data)[0].frame)

    @property
    def messages(self) -> list[dict]:
        return [item for item in self.sent if isinstance(item, dict)]

    @property
    def frames(self) -> list[int]:
        return [item for item in self.sent if isinstance(item, int)]


@contextlib.asynccontextmanager
async def filmed() -> AsyncIterator[tuple[Audience, Pictures, Viewer, list[FrameHeader]]]:
    """A viewer who takes video, and the headers of what was sent to it."""
    audience, pictures = Audience(), Pictures()
    viewer = Viewer("", audience.join(), pictures, video=True)
    sent: list[FrameHeader] = []

    async def binary(data: bytes) -> None:
        sent.append(unpack_frame(data)[0])

    async def text(data: str) -> None:
        pass

    task = asyncio.create_task(viewer.run(lambda event: None, text, binary))
    yield audience, pictures, viewer, sent
    viewer.close()
    await asyncio.wait_for(task, 5)
    pictures.close()


class Seat:
    """A viewer that runs, its wire, and the audience it sits in."""

    def __init__(self, audience: Audience, pictures: Pictures | None = None) -> None:
        self.viewer = Viewer("", audience.join(), pictures or Pictures())
        self.wire = Wire()
        hear = lambda event: self.viewer.tell(event.kind, **event.data)  # noqa: E731
        self.task = asyncio.create_task(self.viewer.run(hear, self.wire.text, self.wire.binary))

    async def leave(self) -> None:
        self.viewer.close()
        self.wire.open.set()
        await asyncio.wait_for(self.task, 5)


def test_at_most_two_frames_are_in_flight_and_the_newest_follows():
    async def body():
        audience = Audience()
        seat = Seat(audience)
        for index in range(10):
            audience.offer(frame(index))
            await settled()
        assert seat.wire.frames == [0, 1] and FRAMES_IN_FLIGHT == 2
        seat.viewer.acked(0, 0)
        await settled()
        assert seat.wire.frames == [0, 1, 9] and seat.viewer.dropped == 7
        seat.viewer.acked(0, 9)
        audience.offer(frame(10))
        await settled()
        audience.offer(frame(11))
        await settled()
        assert seat.wire.frames[-2:] == [10, 11], (
            "an acknowledgement counts for all frames before it"
        )
        await seat.leave()

    asyncio.run(body())


def test_messages_overtake_frames_and_none_is_lost():
    async def body():
        audience = Audience()
        seat = Seat(audience)
        await settled()
        audience.offer(frame(0))
        for number in range(5):
            audience.tell("notice", level="info", message=str(number))
        await settled()
        assert [m["message"] for m in seat.wire.messages] == list("01234") and seat.wire.sent[
            5:
        ] == [0]
        await seat.leave()

    asyncio.run(body())


def test_a_stuck_viewer_delays_nobody_and_costs_bounded_memory():
    async def body():
        audience, pictures = Audience(), Pictures()
        stuck, quick = Seat(audience, pictures), Seat(audience, pictures)
        await settled()
        stuck.wire.open.clear()
        for index in range(1000):
            audience.offer(frame(index))
            stuck.viewer.tell("received", seq=index)
            await settled()
            quick.viewer.acked(0, index)
        assert quick.wire.frames == list(range(1000)) and quick.viewer.dropped == 0
        assert len(stuck.viewer._messages) <= PATIENT_BACKLOG + 1
        await stuck.leave()
        assert stuck.wire.messages[-1]["seq"] == 999
        await quick.leave()

    asyncio.run(body())


def test_a_viewer_hopelessly_behind_is_let_go():
    async def body():
        audience = Audience()
        seat = Seat(audience)
        await settled()
        seat.wire.open.clear()
        for number in range(FULL_BACKLOG + 2):
            audience.tell("notice", level="info", message=str(number))
            await settled()
        assert seat.viewer._subscription.closed
        await seat.leave()

    asyncio.run(body())


def test_pictures_are_encoded_once_for_everybody_and_faithfully():
    pictures, one = Pictures(), frame(7)
    first = pictures.of(one, 85)
    assert pictures.of(one, 85) is first and pictures.of(one, 45) != first
    assert np.abs(decode_jpeg(first).astype(int) - one.image).max() <= 3
    assert pictures.of(frame(8), 85) != first


def test_the_event_kinds_that_may_be_replaced_are_cumulative_ones_only():
    async def body():
        viewer = Viewer("", Audience().join(Event("status", {})), Pictures())
        for number in range(100):
            viewer.tell("record", number=number)
        assert len(viewer._messages) == 100
        for number in range(100):
            viewer.tell("stats", number=number)
        assert [m["number"] for m in viewer._messages if m["type"] == "stats"] == [99]

    asyncio.run(body())


def test_a_video_frame_that_cannot_be_decoded_comes_as_a_picture_when_the_link_is_free():
    """So that who pauses sees the last frame, also after a loss."""

    async def body():
        async with filmed() as (audience, pictures, viewer, sent):
            large = large_frames(5)
            audience.offer(large[0])
            await until(lambda: len(sent) >= 1)
            assert sent[0].codec == CODEC_H264 and sent[0].key
            for other in large[1:4]:  # somebody else takes these; this viewer misses them
                await pictures.film(viewer.ladder.quality).piece(other, None)
            audience.offer(large[4])
            await asyncio.sleep(0.3)
            assert len(sent) == 1, "it cannot be decoded, and the link is not free"
            viewer.acked(0, 0)
            await until(lambda: len(sent) >= 2)
            assert sent[1].codec == CODEC_JPEG and sent[1].frame == 4

    asyncio.run(body())


def test_after_a_frame_that_was_lost_video_begins_with_what_can_be_decoded():
    async def body():
        async with filmed() as (audience, pictures, viewer, sent):
            large = large_frames(3)
            audience.offer(large[0])
            await until(lambda: sent)
            audience.offer(large[1])
            await until(lambda: len(sent) == 2)
            audience.offer(large[2])
            await asyncio.sleep(0.1)
            assert [each.key for each in sent] == [True, False], "two are in flight"
            viewer.lost(0, 1)
            await until(lambda: len(sent) > 2)
            assert sent[2].key or sent[2].codec == CODEC_JPEG

    asyncio.run(body())
