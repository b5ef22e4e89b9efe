"""The live connection over plain HTTP: joins, polls and posts, and who is let in."""

import asyncio
import json

import httpx
import pytest

from pipeline.stage.audience import Audience
from pipeline.web import allowance as allowances
from pipeline.web import polling
from pipeline.web.messages import unpack_frame
from pipeline.web.quality import Pictures
from pipeline.web.viewer import FRAMES_IN_FLIGHT, Viewer
from tests.live import BEARER, TOKEN, live
from tests.until import settled, until


def run(body, *road, **settings):
    async def whole():
        async with (
            live(*road, **settings) as theatre,
            httpx.AsyncClient(base_url=theatre.origin, headers=BEARER, timeout=30) as http,
        ):
            return await body(theatre, http)

    return asyncio.run(whole())


def records(data):
    """The records of a poll: text as JSON objects, frames as bytes."""
    while data:
        size = int.from_bytes(data[1:5])
        kind, record, data = data[0], data[5 : 5 + size], data[5 + size :]
        yield json.loads(record) if kind == polling.TEXT else record


async def joined(http, **hello):
    answer = await http.post("/poll", content=json.dumps({"type": "hello", **hello}))
    assert answer.status_code == 200, answer.text
    return f"/poll/{answer.text}"


async def hear(http, address, kind):
    """The next message of a kind ("frame": a frame's header); frames are acknowledged."""
    async with asyncio.timeout(20):
        while True:
            for record in records((await http.get(address)).content):
                if isinstance(record, bytes):
                    header, jpeg = unpack_frame(record)
                    assert jpeg[:2] == b"\xff\xd8"
                    ack = {"type": "ack", "epoch": header.epoch, "frame": header.frame}
                    await http.post(address, content=json.dumps(ack))
                    record = {"type": "frame", "place": (header.epoch, header.frame)}
                if record["type"] == kind:
                    return record


def test_messages_and_frames_come_and_controls_are_answered():
    async def body(theatre, http):
        address = await joined(http, client="far")
        assert (await hear(http, address, "welcome"))["protocol"] == 1
        said = [{"type": "input", "seq": 5, "keys": ["left"]}, {"type": "ping", "clock": 1}]
        answer = await http.post(address, content="\n".join(map(json.dumps, said)))
        assert answer.status_code == 204
        assert (await hear(http, address, "received"))["label"] == "DL"
        assert theatre.show.held == "DL"
        frames = [(await hear(http, address, "frame"))["place"] for _ in range(20)]
        assert frames == sorted(set(frames))

    run(body)


def test_polls_whose_client_is_gone_take_nothing(monkeypatch):
    monkeypatch.setattr(polling, "LOST_AFTER", 60.0)

    async def body(theatre, http):
        address = await joined(http)
        await hear(http, address, "frame")
        for _ in range(2):
            _, writer = await asyncio.open_connection("127.0.0.1", theatre.port)
            key = BEARER["Authorization"]
            head = f"GET {address} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: {key}\r\n\r\n"
            writer.write(head.encode())
            await writer.drain()
            writer.close()
        await asyncio.sleep(0.3)
        async with asyncio.timeout(5):
            for _ in range(10):
                await hear(http, address, "frame")

    run(body)


def test_frames_of_answers_that_are_lost_on_their_way_do_not_stop_the_picture(monkeypatch):
    monkeypatch.setattr(polling, "LOST_AFTER", 0.3)

    async def body(theatre, http):
        address = await joined(http)
        lost = 0
        while lost < FRAMES_IN_FLIGHT:  # as a proxy hears them that passes nothing on
            heard = records((await http.get(address)).content)
            lost += sum(isinstance(record, bytes) for record in heard)
        async with asyncio.timeout(5):
            for _ in range(10):
                await hear(http, address, "frame")

    run(body)


def test_a_newer_poll_ends_an_older_one_and_gets_what_comes():
    async def body():
        box = polling.Mailbox(Viewer("", Audience().join(), Pictures()))
        older = asyncio.create_task(box.fetch(asyncio.Future()))
        await settled()
        newer = asyncio.create_task(box.fetch(asyncio.Future()))
        assert await older == b"" and not newer.done()
        await box.send_text("{}")
        assert list(records(await newer)) == [{}]

    asyncio.run(body())


def test_records_that_come_as_the_client_of_a_poll_leaves_wait_for_the_next():
    async def body():
        box = polling.Mailbox(Viewer("", Audience().join(), Pictures()))
        gone: asyncio.Future[None] = asyncio.Future()
        dead = asyncio.create_task(box.fetch(gone))
        await settled()
        await box.send_text("{}")
        gone.set_result(None)
        assert await dead == b""
        assert list(records(await box.fetch(asyncio.Future()))) == [{}]

    asyncio.run(body())


def test_the_token_is_asked_for_and_names_cannot_be_guessed():
    async def body(theatre, http):
        address = await joined(http)
        async with httpx.AsyncClient(base_url=theatre.origin) as page:
            assert (await page.post("/poll", content='{"type":"hello"}')).status_code == 401
            await page.get("/", params={"token": TOKEN})
            for proof in ({}, {"token": "wrong"}, {"token": 7}):
                refused = await page.post("/poll", content=json.dumps({"type": "hello", **proof}))
                assert refused.status_code == 403
            await joined(page, token=TOKEN)
        for other in ("/poll/x", address[:-1]):
            assert (await http.get(other)).status_code in (404, 405, 410)
        assert len(theatre.room.viewers) == 2

    run(body)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"type":"input"}', b"\xff", "x" * 70_000])
def test_what_is_no_hello_is_refused_in_words(content):
    async def body(theatre, http):
        answer = await http.post("/poll", content=content)
        assert answer.status_code == 400 and "expected" in answer.text
        assert not theatre.room.viewers

    run(body, wait=False)


@pytest.mark.parametrize("content, status", [(b"\xff", 400), (b"x" * 70_000, 413)])
def test_what_cannot_be_said_is_refused_in_words(content, status):
    async def body(theatre, http):
        address = await joined(http)
        answer = await http.post(address, content=content)
        assert answer.status_code == status and "expected" in answer.text
        assert (await http.post(address, content='{"type":"ping","clock":1}')).status_code == 204

    run(body, wait=False)


def test_who_polls_no_more_is_gone_and_lets_go_of_the_keys(monkeypatch):
    monkeypatch.setattr(polling, "GONE_AFTER", 0.4)

    async def body(theatre, http):
        address = await joined(http)
        await hear(http, address, "welcome")
        await http.post(address, content='{"type":"input","seq":1,"keys":["left"]}')
        assert theatre.show.held == "DL"
        await until(lambda: not theatre.room.viewers, 5)
        assert theatre.show.held == "D"
        await asyncio.sleep(0.1)
        assert (await http.get(address)).status_code == 410

    run(body)


def test_a_flood_of_posts_is_sent_away_and_delays_nobody(monkeypatch):
    for name, value in (("RATE", 50.0), ("BURST", 50.0), ("LONGEST_EXCESS", 0.3)):
        monkeypatch.setattr(allowances, name, value)

    async def body(theatre, http):
        address = await joined(http)
        flood = "\n".join(['{"type":"ping","clock":1}'] * 500)
        assert (await http.post(address, content=flood, timeout=20)).status_code == 429

    run(body)


def test_the_end_of_the_show_is_heard():
    async def body(theatre, http):
        address = await joined(http)
        await hear(http, address, "welcome")
        theatre.show.stop("that was all")
        assert (await hear(http, address, "bye"))["reason"] == "that was all"

    run(body)


def test_who_leaves_in_the_middle_of_a_post_is_no_news(caplog):
    async def body(theatre, http):
        for path in ("/poll", "/lobby/worlds"):
            _, writer = await asyncio.open_connection("127.0.0.1", theatre.port)
            head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100\r\n"
            writer.write(f"{head}Authorization: {BEARER['Authorization']}\r\n\r\n{{".encode())
            await writer.drain()
            await asyncio.sleep(0.2)
            writer.close()
        await asyncio.sleep(0.3)
        assert (await http.get("/healthz")).status_code == 200

    run(body)
    assert not [record for record in caplog.records if record.exc_info]
