"""Frames as H.264: encoded once for everybody, in order, and a key frame for who comes or loses
one."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import av
import numpy as np

from pipeline.bench.engines import psnr
from pipeline.web import film as films
from pipeline.web.film import Film, fits_video
from tests.road import Road
from tests.shown import shown

WIDTH, HEIGHT = 352, 240


def frames(count):
    road = Road(WIDTH, HEIGHT)
    size = road.step("D").shape
    assert size[1] >= 288
    return [shown(i, road.step("DL"), label="DL") for i in range(count)]


def decoded(pieces):
    """The pictures of pieces, each as soon as its bytes are there."""
    decoder, pictures = av.CodecContext.create("h264", "r"), []
    decoder.options = {"flags": "low_delay"}
    decoder.thread_count = 1
    for piece in pieces:
        pictures += [f.to_ndarray(format="rgb24") for f in decoder.decode(av.Packet(piece.data))]
    return pictures + [f.to_ndarray(format="rgb24") for f in decoder.decode(None)]


def run(body):
    async def whole():
        with ThreadPoolExecutor(1) as worker:
            await body(Film(24, worker))

    asyncio.run(whole())


def test_a_viewer_decodes_every_frame_and_each_comes_out_at_once():
    async def body(film):
        shown, after, pieces = frames(24), None, []
        for frame in shown:
            piece = await film.piece(frame, after)
            after = piece.serial
            pieces.append(piece)
        assert [piece.key for piece in pieces] == [True] + 23 * [False]
        pictures = decoded(pieces)
        assert len(pictures) == 24
        assert min(psnr(a, frame.image) for a, frame in zip(pictures, shown)) > 33
        assert sum(len(piece.data) for piece in pieces[1:]) < 8 * len(pieces[0].data)

    run(body)


def test_a_frame_is_encoded_once_however_many_take_it(monkeypatch):
    calls = []
    encode = films.FrameEncoder.encode

    def counted(*arguments):
        calls.append(1)
        return encode(*arguments)

    monkeypatch.setattr(films.FrameEncoder, "encode", counted)

    async def body(film):
        shown = frames(4)
        for index, frame in enumerate(shown):
            after = index or None
            pieces = await asyncio.gather(*(film.piece(frame, after) for _ in range(30)))
            assert len({piece.serial for piece in pieces}) == 1
        assert len(calls) == 4

    run(body)


def test_who_comes_later_or_loses_a_frame_gets_a_key_frame_soon(monkeypatch):
    monkeypatch.setattr(films, "KEY_SECONDS", 0.05)

    async def body(film):
        shown = frames(12)
        first = await film.piece(shown[0], None)
        assert (await film.piece(shown[1], first.serial)).serial == 2
        assert await film.piece(shown[1], None) is None, "a newcomer cannot begin in the middle"
        await asyncio.sleep(0.06)
        key = await film.piece(shown[2], None)
        assert key.key and len(decoded([key])) == 1
        for frame in shown[3:6]:  # asked for by somebody all the time, key frames stay rare
            assert await film.piece(frame, None) is None
        assert await film.piece(shown[4], None) is None and not await film.piece(shown[1], 0)
        delta = await film.piece(shown[5], 5)
        assert not delta.key and delta.serial == 6, "a piece is kept for who is a little behind"

    run(body)


def test_a_frame_that_the_film_has_passed_is_not_encoded_any_more():
    async def body(film):
        shown = frames(40)
        await film.piece(shown[5], None)
        assert await film.piece(shown[2], None) is None
        again = replace(shown[0], epoch=1)
        assert (await film.piece(again, 1)).serial == 2, "after a reset the film goes on"
        for frame in shown[1:]:
            await film.piece(replace(frame, epoch=1), None)
        assert len(film._pieces) <= films.KEPT

    run(body)


def test_small_and_odd_pictures_stay_jpeg():
    def of(height, width):
        return shown(image=np.zeros((height, width, 3), np.uint8))

    assert fits_video(of(480, 720)) and not fits_video(of(96, 144)) and not fits_video(of(481, 720))
