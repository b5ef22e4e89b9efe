"""The gateway on a real port: the door, the socket, floods, slow and hostile clients, downloads,
health, figures."""

import asyncio
import contextlib
import json
import random
import re
import socket as sockets
import ssl
import time
from pathlib import Path

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from configs.errors import UserError
from pipeline.clients.client import connect as connect_client
from pipeline.stage.recording import read_control_log
from pipeline.video import read_video
from pipeline.web import allowance as allowances
from pipeline.web import room as rooms
from pipeline.web import server as servers
from pipeline.web.gateway import Gateway
from pipeline.web.messages import unpack_frame
from pipeline.web.site import PAGE
from pipeline.worlds import Worlds
from tests.hostile import hostile
from tests.live import TOKEN, live, socket
from tests.slow_link import slow_link
from tests.tls import certificate

BEARER = {"Authorization": f"Bearer {TOKEN}"}


def run(body, *road, **settings):
    async def whole():
        async with (
            live(*road, **settings) as theatre,
            httpx.AsyncClient(base_url=theatre.origin) as http,
        ):
            return await body(theatre, http)

    return asyncio.run(whole())


# --- the door ---


def test_the_token_becomes_a_cookie():
    async def body(theatre, http):
        answer = await http.get("/", params={"token": TOKEN})
        assert answer.status_code == 200 and "<canvas" in answer.text
        cookie = answer.headers["set-cookie"]
        assert cookie.startswith(f"matrix_{theatre.port}=") and TOKEN not in cookie
        assert {"httponly", "samesite=strict"} <= set(cookie.lower().split("; "))
        assert "path" not in cookie.lower(), "it belongs to the folder that the browser sees"
        page = await http.get("/")
        assert page.status_code == 200 and "<canvas" in page.text
        policy = page.headers["content-security-policy"]
        assert "default-src 'self'" in policy and "unsafe" not in policy
        assert page.headers["x-content-type-options"] == "nosniff" and "server" not in page.headers

    run(body)


@pytest.mark.parametrize(
    "path", ["/", "/?token=wrong", "/?token=", "/static/app.js", "/metrics", "/recordings/x", "/no"]
)
def test_strangers_get_nothing(path):
    async def body(theatre, http):
        answer = await http.get(path)
        assert answer.status_code == 401 and "set-cookie" not in answer.headers

    run(body, wait=False)


def test_foreign_hosts_get_nothing_even_with_the_key():
    async def body(theatre, http):
        for host in ("evil.example", f"evil.example:{theatre.port}"):
            answer = await http.get("/", headers={**BEARER, "Host": host})
            assert answer.status_code == 403
        tunnel = await http.get("/", headers={**BEARER, "Host": "localhost:9999"})
        assert tunnel.status_code == 200

    run(body, wait=False)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer wrong"},
        {**BEARER, "Origin": "http://evil.example"},
        {**BEARER, "Origin": "http://127.0.0.1:1"},
        {**BEARER, "Origin": "null"},
        {**BEARER, "Host": "evil.example"},
        {"Cookie": "{cookie}"},
        {"Cookie": "{cookie}", "Origin": "http://127.0.0.1"},
        {"Cookie": "{cookie}", "Origin": "https://127.0.0.1:{port}"},
        {"Cookie": "{cookie}", "Origin": "http://127.0.0.1:{port}"},
        {"Cookie": "matrix_{port}=wrong", "Origin": "http://127.0.0.1:{port}"},
    ],
)
def test_the_socket_opens_for_the_page_itself_only(headers):
    """The page is who knows the token besides its cookie; a cookie alone may have been handed to
    another port, and an Origin may be whatever a program says."""

    async def body(theatre, http):
        await http.get("/", params={"token": TOKEN})
        cookie = f"matrix_{theatre.port}={http.cookies[f'matrix_{theatre.port}']}"
        address = f"ws://127.0.0.1:{theatre.port}/live"
        good = {"Cookie": cookie, "Origin": theatre.origin}
        async with connect(address, additional_headers=good, proxy=None) as page:
            await page.send(json.dumps({"type": "hello", "token": TOKEN}))
            assert json.loads(await page.recv())["type"] == "welcome"
        filled = {
            k: v.replace("{cookie}", cookie).replace("{port}", str(theatre.port))
            for k, v in headers.items()
        }
        for proof in ({}, {"token": "wrong"}, {"token": cookie.partition("=")[2]}, {"token": None}):
            try:
                async with connect(address, additional_headers=filled, proxy=None) as stranger:
                    await stranger.send(json.dumps({"type": "hello", **proof}))
                    assert json.loads(await stranger.recv())["type"] == "bye"
            except InvalidStatus as refusal:
                assert refusal.response.status_code in (400, 403)
        assert not theatre.room.viewers

    run(body, wait=False)


def test_a_taken_port_a_weak_token_and_broken_tls_files_are_one_line(tmp_path):
    async def body(theatre, http):
        for settings, complaint in (
            ({"port": theatre.port}, "cannot listen on 127.0.0.1"),
            ({"host": "203.0.113.1"}, "cannot listen on 203.0.113.1"),
            ({"token": "short"}, "access token"),
            ({"tls": (tmp_path / "no.pem", tmp_path / "no.key")}, "TLS files"),
        ):
            with pytest.raises(UserError, match=complaint) as refusal:
                Gateway(
                    Worlds(theatre.show),
                    **{"host": "127.0.0.1", "port": 0, "token": TOKEN, **settings},
                )
            assert "\n" not in str(refusal.value)

    run(body, wait=False)


def test_tls_files_make_it_https(tmp_path):
    pair = certificate(tmp_path)

    async def whole():
        async with live(tls=pair) as theatre:
            trust = ssl.create_default_context(cafile=pair[0])
            assert theatre.url.startswith("https://")
            async with httpx.AsyncClient(verify=trust) as http:
                answer = await http.get(theatre.url)
                assert (
                    answer.status_code == 200 and "secure" in answer.headers["set-cookie"].lower()
                )
            async with await connect_client(theatre.url, tls=trust) as client:
                assert (await anext(aiter(client))).image.shape == (96, 144, 3)

    asyncio.run(whole())


# --- the page's files, health and figures ---


def test_the_page_is_small_and_needs_nothing_from_elsewhere():
    files = [path for path in PAGE.iterdir() if path.is_file()]

    async def body(theatre, http):
        sizes = []
        for path in files:
            async with http.stream("GET", f"/static/{path.name}", headers=BEARER) as answer:
                sizes.append(len(b"".join([piece async for piece in answer.aiter_raw()])))
        assert sum(sizes) < 40_000, "what travels"

    run(body, wait=False)
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
            await theatre.until(lambda: theatre.show.ready)
            assert (await http.get("/readyz")).status_code == 200
            async with socket(theatre.port) as link:
                assert {"stage", "percent", "message", "seconds"} <= (
                    await link.hear("status")
                ).keys()
            theatre.show.stop()
            await theatre.until(lambda: theatre.show.state == "ended")
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

    run(body)


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

    run(body, recordings=tmp_path)


# --- the socket ---


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

    run(body)


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

    run(body)


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

    run(body)


def test_who_says_no_hello_is_sent_away():
    async def body(theatre, http):
        for first in ('{"type":"input"}', b"\x00", "garbage", '{"type":"hello","client":5}'):
            async with socket(theatre.port, hello=False) as link:
                await link.connection.send(first)
                assert (await link.hear("bye"))["reason"]
                with pytest.raises(ConnectionClosed):
                    await link.hear("never")

    run(body)


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
        await theatre.until(lambda: not theatre.room.viewers)

    run(body)


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
            await theatre.until(lambda: len(theatre.room.viewers) == 1)
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

    run(body, recordings=tmp_path)


def test_the_room_is_full_in_words(monkeypatch):
    monkeypatch.setattr(rooms, "MOST_VIEWERS", 2)

    async def body(theatre, http):
        async with (
            socket(theatre.port),
            socket(theatre.port),
            socket(theatre.port, hello=False) as third,
        ):
            await third.say("hello")
            assert "full" in (await third.hear("bye"))["reason"]

    run(body)


def test_a_client_that_never_reads_delays_nobody():
    async def body(theatre, http):
        reader, writer = await asyncio.open_connection("127.0.0.1", theatre.port, limit=256)
        host = f"Host: localhost\r\nAuthorization: Bearer {TOKEN}\r\n"
        key = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
        writer.write(f"GET /live HTTP/1.1\r\n{host}{key}Sec-WebSocket-Version: 13\r\n\r\n".encode())
        assert b" 101 " in await reader.readuntil(b"\r\n\r\n")
        hello = json.dumps({"type": "hello"}).encode()
        writer.write(
            b"\x81" + bytes([0x80 | len(hello), 0, 0, 0, 0]) + hello
        )  # and never reads again
        await theatre.until(lambda: theatre.show.viewers == 1)
        async with await connect_client(theatre.url) as client:
            stream = aiter(client)
            begun = time.monotonic()
            frames = [await anext(stream) for _ in range(48)]
            assert time.monotonic() - begun < 12
            assert [f.header.frame for f in frames] == sorted({f.header.frame for f in frames})
        writer.close()

    run(body)


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

    run(body)


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
            await theatre.until(lambda: not theatre.room.viewers)

    run(body)


def test_a_request_that_dribbles_is_ended(monkeypatch):
    monkeypatch.setattr(servers, "REQUEST_SECONDS", 0.4)

    async def body(theatre, http):
        reader, writer = await asyncio.open_connection("127.0.0.1", theatre.port)
        writer.write(b"GET / HTTP/1.1\r\nHost: local")
        assert await asyncio.wait_for(reader.read(), 5) == b""
        writer.close()
        async with socket(theatre.port) as link:
            await asyncio.sleep(1)
            await link.say("ping", clock=3)
            assert (await link.hear("pong"))["clock"] == 3, "live sockets are left alone"

    run(body)


def test_the_same_cookie_works_after_a_restart_on_the_same_port():
    async def whole():
        async with live() as theatre, httpx.AsyncClient() as http:
            port, cookie = (
                theatre.port,
                (await http.get(theatre.url)).headers["set-cookie"].split(";")[0],
            )
        async with live(port=port) as theatre, httpx.AsyncClient() as http:
            assert (await http.get(theatre.origin, headers={"Cookie": cookie})).status_code == 200

    asyncio.run(whole())


def test_closing_ends_every_connection_and_frees_the_port():
    async def whole():
        async with live() as theatre:
            link = await connect(
                f"ws://127.0.0.1:{theatre.port}/live", additional_headers=BEARER, proxy=None
            )
            await link.send('{"type":"hello"}')
            port = theatre.port
            begun = time.monotonic()
        assert time.monotonic() - begun < 8
        with pytest.raises(ConnectionClosed):
            while True:
                await asyncio.wait_for(link.recv(), 5)
        sockets.create_server(("127.0.0.1", port)).close()

    asyncio.run(whole())


def test_the_page_belongs_to_the_package():
    import configparser

    packaged = configparser.ConfigParser()
    packaged.read(Path(__file__).resolve().parent.parent / "setup.cfg")
    assert "static" in packaged["options.package_data"]["matrix_live.pipeline.web"]
