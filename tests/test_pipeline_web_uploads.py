"""A file comes in over HTTP: only from who was told where, whole, and not larger than allowed."""

import asyncio

import httpx

from pipeline.web import uploads
from tests.dream import DreamSource
from tests.live import BEARER, live, socket
from tests.until import until


def run(parts, body):
    async def make():
        return DreamSource(parts)

    async def whole():
        async with (
            live(source=make) as theatre,
            socket(theatre.port) as link,
            httpx.AsyncClient(base_url=theatre.origin, headers=BEARER) as http,
        ):
            await until(lambda: theatre.show.latent >= 1)
            await body(theatre, link, http)
            assert theatre.show.epoch == 1

    asyncio.run(whole())


async def address(link):
    await link.say("open")
    return "/" + (await link.hear("upload"))["address"]


def test_an_address_is_good_once_and_only_for_who_has_the_token(parts):
    async def body(theatre, link, http):
        assert (await http.post("/open/guessed", content=b"x")).status_code == 410
        async with httpx.AsyncClient(base_url=theatre.origin) as stranger:
            assert (await stranger.post(await address(link), content=b"x")).status_code == 401
        first, second = await address(link), await address(link)
        assert (await http.post(first, content=b"x")).status_code == 410, "a newer one was told"
        answer = await http.post(second, content=b"x")
        assert answer.status_code == 400 and answer.text.startswith("this file")
        assert (await http.post(second, content=b"x")).status_code == 410
        assert (await http.get(second)).status_code == 405

    run(parts, body)


def test_what_is_too_large_or_too_slow_is_refused(parts, monkeypatch):
    async def body(theatre, link, http):
        monkeypatch.setattr(uploads, "LARGEST_UPLOAD", 1 << 20)
        answer = await http.post(await address(link), content=b"x" * (1 << 21))
        assert (answer.status_code, answer.text) == (400, "expected at most 1 MiB\n")
        monkeypatch.setattr(uploads, "UPLOAD_SECONDS", 0.3)

        async def slowly():
            for _ in range(10):
                yield b"x"
                await asyncio.sleep(0.1)

        answer = await http.post(await address(link), content=slowly())
        assert answer.status_code == 400 and "too slowly" in answer.text
        monkeypatch.setattr(uploads, "UPLOAD_SECONDS", 60.0)
        monkeypatch.setattr(uploads, "PIECE_SECONDS", 0.05)
        answer = await http.post(await address(link), content=slowly())
        assert answer.status_code == 400 and "too slowly" in answer.text

    run(parts, body)


def test_who_lost_the_wheel_meanwhile_opens_nothing(parts, tmp_path):
    path = tmp_path / "drive.world"

    async def body(theatre, link, http):
        theatre.show.source.live.save(path)
        there = await address(link)
        async with socket(theatre.port) as other:
            await other.say("take_control")
            await other.hear("role")
            answer = await http.post(there, content=path.read_bytes())
            assert answer.status_code == 400 and "take control" in answer.text

    run(parts, body)
