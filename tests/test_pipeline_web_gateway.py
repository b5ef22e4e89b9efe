"""The gateway on a real port: the page's files, health and figures, downloads; the socket, floods,
slow and hostile clients."""

import asyncio
import configparser
import contextlib
import json
import random
import re
import time

import httpx
import pytest
from websockets.exceptions import ConnectionClosed

from pipeline.clients.client import connect as connect_client
from pipeline.stage.control_log import read_control_log
from pipeline.video import read_video
from pipeline.web import allowance as allowances
from pipeline.web import room as rooms
from pipeline.web.messages import unpack_frame
from pipeline.web.site import PAGE
from tests.hostile import hostile
from tests.live import BEARER, TOKEN, live, socket, with_show
from tests.places import ROOT
from tests.slow_link import slow_link
from tests.until import until


def test_the_page_is_small_and_needs_nothing_from_elsewhere():
    files = [path for path in PAGE.iterdir() if path.is_file()]

    async def body(theatre, http):
        sizes = []
        for path in files:
            async with http.stream("GET", f"/static/{path.name}", headers=BEARER) as answer:
                sizes.append(len(b"".join([piece async for piece in answer.aiter_raw()])))
        assert sum(sizes) < 40_000, "what travels"

    with_show(body, wait=False)
    for path in files:
        addresses = re.findall(r"https?://[^\s\"')]+", path.read_text())
        assert [a for a in addresses if a != "http://www.w3.org/2000/svg"] == [], path.name


def test_the_page_is_there_before_the_world_and_says_what_is_loading():
    async def whole():
        async with (
            live("--startup", "0", wait=False) as theatre,
            httpx.AsyncClient(base_url=theatre.origin) as http,
        ):
            assert (await http.get("/healthz")).text == "alive\n"
            await until(lambda: theatre.show.ready)
            assert (await http.get("/readyz")).status_code == 200
            async with socket(theatre.port) as link:
                assert {"stage", "percent", "message", "seconds"} <= (
                    await link.hear("status")
                ).keys()
            theatre.show.stop()
            await until(lambda: theatre.show.state == "ended")
            assert (await http.get("/readyz")).status_code == 503
            assert (await http.get("/healthz")).status_code == 200

    asyncio.run(whole())


def test_figures_for_prometheus():
    async def body(theatre, http):
        async with socket(theatre.port) as link:
            for _ in range(5):
                await link.hear("stats")
            await link.say("photon", ms=210)
            await link.say("nonsense")
            await link.hear("error")
            text = (await http.get("/metrics", headers=BEARER)).text
        assert 'matrix_clients{role="driver",world="first"} 1.0' in text
        assert 'matrix_control_to_photon_seconds_count{world="first"} 1.0' in text
        assert 'matrix_refused_total{what="message",world="first"} 1.0' in text
        assert (
            float(re.findall(r'matrix_sent_bytes_total{world="first"} ([0-9.e+]+)', text)[0])
            > 10_000
        )

    with_show(body)


def test_recordings_can_be_downloaded_and_nothing_else(tmp_path):
    async def body(theatre, http):
        (tmp_path / "secret.txt").write_text("secret")
        async with socket(theatre.port) as link:
            await link.say("record", on=True)
            await link.hear("record")
            await asyncio.sleep(1.2)
            await link.say("record", on=False)
            files = (await link.hear("record"))["files"]
        video, log = sorted(files, reverse=True)
        answer = await http.get(video, headers=BEARER)
        assert answer.status_code == 200 and "attachment" in answer.headers["content-disposition"]
        copy = tmp_path / "copy.mp4"
        copy.write_bytes(answer.content)
        frames, fps = read_video(copy)
        assert fps == 16 and len(frames) >= 12 and frames.shape[1:] == (96, 144, 3)
        (tmp_path / "copy.jsonl").write_bytes((await http.get(log, headers=BEARER)).content)
        takes = read_control_log(tmp_path / "copy.jsonl", theatre.show.info)
        assert takes[-1].seed == 42 and set(takes[-1].labels) == {"D"}
        for path in (
            "secret.txt",
            "../secret.txt",
            "..%2fsecret.txt",
            "%2e%2e/%2e%2e/etc/passwd",
            ".",
        ):
            answer = await http.get(f"/recordings/{path}", headers=BEARER)
            assert answer.status_code == 404 and "secret" not in answer.text

    with_show(body, recordings=tmp_path)


def test_frames_flow_and_controls_are_answered_twice():
    async def body(theatre, http):
        async with socket(theatre.port) as link:
            await link.say("input", seq=5, keys=["left"], source="test")
            received = await link.hear("received")
            applied = await link.hear("applied")
            assert received["seq"] == applied["seq"] == 5 and received["label"] == "DL"
            while True:
                data = await asyncio.wait_for(link.connection.recv(), 5)
                if isinstance(data, bytes):
                    header, jpeg = unpack_frame(data)
                    break
            assert (
                header.cursor == received["cursor"]
                and header.frame >= applied["frame"]
                and jpeg[:2] == b"\xff\xd8"
            )

    with_show(body)


def test_bad_messages_are_answered_and_the_connection_stays():
    async def body(theatre, http):
        async with socket(theatre.port) as link:
            for bad in (
                "",
                "{",
                "[1]",
                '{"type":"fly"}',
                "[" * 20_000,
                "x" * 60_000,
                b"\x00\x01",
                "\u0000",
            ):
                await link.connection.send(bad)
                assert (await link.hear("error"))["message"]
            await link.say("ping", clock=1)
            assert (await link.hear("pong"))["clock"] == 1

    with_show(body)


@pytest.mark.parametrize(("data", "code"), [("x" * 70_000, 1009), (b"\xff\xfe\xfa", 1007)])
def test_messages_beyond_the_protocol_end_their_own_connection_only(data, code):
    async def body(theatre, http):
        async with socket(theatre.port) as other, socket(theatre.port) as link:
            await link.connection.send(data, text=True)
            with pytest.raises(ConnectionClosed) as end:
                await link.hear("never")
            assert end.value.rcvd is not None and end.value.rcvd.code == code
            await other.say("ping", clock=2)
            assert (await other.hear("pong"))["clock"] == 2

    with_show(body)


def test_who_says_no_hello_is_sent_away():
    async def body(theatre, http):
        for first in ('{"type":"input"}', b"\x00", "garbage", '{"type":"hello","client":5}'):
            async with socket(theatre.port, hello=False) as link:
                await link.connection.send(first)
                assert (await link.hear("bye"))["reason"]
                with pytest.raises(ConnectionClosed):
                    await link.hear("never")

    with_show(body)


def test_a_flood_of_controls_leaves_one_per_latent_and_other_viewers_unharmed():
    async def body(theatre, http):
        async with (
            socket(theatre.port, "driver") as driver,
            await connect_client(theatre.url) as viewer,
        ):

            async def flood():
                for seq in range(6000):
                    await driver.say("input", seq=seq, label=("DL", "DR")[seq % 2])

            seen, labels, frames_of = 0, [], aiter(viewer)
            flooding = asyncio.create_task(flood())
            begun = time.monotonic()
            while time.monotonic() - begun < 3:
                frame = await anext(frames_of)
                seen += 1
                labels.append((frame.header.frame // 4, frame.header.label))
            assert seen > 3 * 8, "the other viewer sees the stream go on"
            assert len({latent for latent, _ in labels}) == len(set(labels)), (
                "one control per latent"
            )
            assert {"DL", "DR"} & {label for _, label in labels}
            flooding.cancel()
        await until(lambda: not theatre.room.viewers)

    with_show(body)


def test_ten_thousand_hostile_messages_through_real_sockets_harm_nobody(tmp_path, caplog):
    """Eight clients at once, ten times each; every other time they end with what the protocol
    cannot bear."""
    clients, times, messages = 8, 10, 130

    async def answered(link, clock):
        await link.say("ping", clock=clock)
        while (await link.hear("pong", 60))["clock"] != clock:
            pass

    async def attack(port, dice):
        for turn in range(times):
            async with socket(port) as link:
                for _ in range(messages):
                    await link.connection.send(
                        hostile(dice)[:60_000] if dice.random() < 0.9 else dice.randbytes(40)
                    )
                await answered(link, 0.125)  # so all were read, and the connection stayed
                if turn % 2:
                    await link.connection.send(dice.choice(("x" * 70_000, b"\xff\xfe")), text=True)
                    with pytest.raises(ConnectionClosed):
                        await link.hear("never")

    async def knock(port, dice):
        """Bytes that are no HTTP at all."""
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        with contextlib.suppress(ConnectionError):
            writer.write(dice.randbytes(300))
            await writer.drain()
        writer.close()

    async def body(theatre, http):
        async with socket(theatre.port) as bystander:
            attacks = asyncio.gather(
                *(attack(theatre.port, random.Random(seed)) for seed in range(clients))
            )
            knocks = asyncio.gather(
                *(knock(theatre.port, random.Random(seed)) for seed in range(100))
            )
            count = 0
            while not attacks.done():
                count += 1
                await answered(bystander, count)
            await asyncio.gather(attacks, knocks)
            assert count > 20, "who sits beside them is answered all the time"
            await until(lambda: len(theatre.room.viewers) == 1)
            await bystander.say("take_control")
            await bystander.say("resume")
            await bystander.say("reset", seed=1)
            await bystander.say("input", seq=1, label="BL")
            await bystander.hear("applied")
            assert theatre.show.ready and theatre.show.seed == 1
            figures = (await http.get("/metrics", headers=BEARER)).text
        refused = float(
            re.findall(r'matrix_refused_total{what="message",world="first"} ([0-9.e+]+)', figures)[
                0
            ]
        )
        assert 0.8 * clients * times * messages < refused <= clients * times * messages
        assert not [record for record in caplog.records if record.name.startswith("uvicorn")], (
            "strangers fill no log"
        )

    with_show(body, recordings=tmp_path)


def test_the_room_is_full_in_words(monkeypatch):
    monkeypatch.setattr(rooms, "MOST_VIEWERS", 2)
    monkeypatch.setattr(rooms, "KEPT_SEATS", 1)

    async def body(theatre, http):
        async with (
            socket(theatre.port),
            socket(theatre.port),
            socket(theatre.port),  # kept for who may drive
            socket(theatre.port, hello=False) as fourth,
        ):
            await fourth.say("hello")
            assert "full" in (await fourth.hear("bye"))["reason"]

    with_show(body)


def test_a_client_that_never_reads_delays_nobody():
    async def body(theatre, http):
        reader, writer = await asyncio.open_connection("127.0.0.1", theatre.port, limit=256)
        host = f"Host: localhost\r\nAuthorization: Bearer {TOKEN}\r\n"
        key = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
        writer.write(f"GET /live HTTP/1.1\r\n{host}{key}Sec-WebSocket-Version: 13\r\n\r\n".encode())
        assert b" 101 " in await reader.readuntil(b"\r\n\r\n")
        hello = json.dumps({"type": "hello"}).encode()
        # says hello and never reads again
        writer.write(b"\x81" + bytes([0x80 | len(hello), 0, 0, 0, 0]) + hello)
        await until(lambda: theatre.show.viewers == 1)
        async with await connect_client(theatre.url) as client:
            stream = aiter(client)
            begun = time.monotonic()
            frames = [await anext(stream) for _ in range(48)]
            assert time.monotonic() - begun < 12
            assert [f.header.frame for f in frames] == sorted({f.header.frame for f in frames})
        writer.close()

    with_show(body)


def test_slow_and_stuck_viewers_cost_another_no_frame():
    async def body(theatre, http):
        slow_port = theatre.url.replace(str(theatre.port), "{}")
        async with (
            slow_link(theatre.port, bits=100_000) as slow,
            slow_link(theatre.port) as stuck,
            await connect_client(slow_port.format(slow.port)) as far,
            await connect_client(slow_port.format(stuck.port)),
            await connect_client(theatre.url) as near,
        ):
            stuck.frozen = True
            frames, behind = aiter(near), aiter(far)
            last = await anext(frames)
            first_far, first, seen = await anext(behind), last.header.frame, 0
            while seen < 48:
                last, seen = await anext(frames), seen + 1
            assert last.header.frame - first <= seen + 2, "every shown frame came"
            while (newest := await anext(behind)).header.frame < last.header.frame:
                pass
            skipped = newest.header.frame - first_far.header.frame
            assert skipped > 40, "the slow one is never far behind: it gets the newest frame next"
            stuck.frozen = False

    with_show(body)


def test_who_floods_without_end_is_sent_away_in_words(monkeypatch):
    for name, value in (("RATE", 50.0), ("BURST", 50.0), ("LONGEST_EXCESS", 0.3)):
        monkeypatch.setattr(allowances, name, value)

    async def body(theatre, http):
        async with socket(theatre.port) as link:

            async def flood():
                with contextlib.suppress(ConnectionClosed):
                    while True:
                        await link.say("ping", clock=1)
                        await asyncio.sleep(0)

            flooding = asyncio.create_task(flood())
            assert (await link.hear("bye"))["reason"] == "too many messages"
            await flooding
            await until(lambda: not theatre.room.viewers)

    with_show(body)


def test_the_page_belongs_to_the_package():
    packaged = configparser.ConfigParser()
    packaged.read(ROOT / "setup.cfg")
    assert "static" in packaged["options.package_data"]["matrix_live.pipeline.web"]
