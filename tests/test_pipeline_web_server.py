"""What listens: its port, TLS, requests that never end, and the end of it all."""

import asyncio
import socket as sockets
import ssl
import time

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from configs.errors import UserError
from pipeline.clients.client import connect as connect_client
from pipeline.web import server as servers
from pipeline.web.gateway import Gateway
from pipeline.worlds import Worlds
from tests.live import BEARER, TOKEN, live, socket, with_show
from tests.tls import certificate


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

    with_show(body, wait=False)


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

    with_show(body)


def test_an_upgrade_that_cannot_be_read_is_refused_and_ended():
    """One header line of over 8 KB, by somebody without a token."""

    async def body(theatre, http):
        reader, writer = await asyncio.open_connection("127.0.0.1", theatre.port)
        writer.write(
            b"GET /live HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\n"
            b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nX-Long: " + b"a" * 9000 + b"\r\n\r\n"
        )
        assert (await asyncio.wait_for(reader.read(), 5)).startswith(b"HTTP/1.1 400")
        writer.close()
        assert (await http.get("/healthz")).status_code == 200

    with_show(body)


def test_those_who_say_nothing_keep_nobody_out():
    async def body(theatre, http):
        async with socket(theatre.port) as link:
            silent = []
            for _ in range(servers.MOST_CONNECTIONS + 20):
                silent.append(await asyncio.open_connection("127.0.0.1", theatre.port))
            for _ in range(3):
                assert (await http.get("/healthz")).status_code == 200
            await link.say("ping", clock=3)
            assert (await link.hear("pong"))["clock"] == 3, "who is known is left alone"
            assert await asyncio.wait_for(silent[0][0].read(), 5) == b"", "the oldest goes"
            reader, writer = silent[-1]
            writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert (await asyncio.wait_for(reader.readline(), 5)).startswith(b"HTTP/1.1 200")
            for _, writer in silent:
                writer.close()

    with_show(body)


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
