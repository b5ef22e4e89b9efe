"""Who comes in, on a real port: the token, its cookie, foreign hosts and origins, the socket."""

import asyncio
import json

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from tests.live import BEARER, TOKEN, live, with_show


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

    with_show(body)


@pytest.mark.parametrize(
    "path", ["/", "/?token=wrong", "/?token=", "/static/app.js", "/metrics", "/recordings/x", "/no"]
)
def test_strangers_get_nothing(path):
    async def body(theatre, http):
        answer = await http.get(path)
        assert answer.status_code == 401 and "set-cookie" not in answer.headers

    with_show(body, wait=False)


def test_foreign_hosts_get_nothing_even_with_the_key():
    async def body(theatre, http):
        for host in ("evil.example", f"evil.example:{theatre.port}"):
            answer = await http.get("/", headers={**BEARER, "Host": host})
            assert answer.status_code == 403
        tunnel = await http.get("/", headers={**BEARER, "Host": "localhost:9999"})
        assert tunnel.status_code == 200

    with_show(body, wait=False)


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

    with_show(body, wait=False)


def test_over_plain_http_the_token_decides_and_no_other_site_can_send_it():
    """A tunnel renames the Host but not the Origin of the lobby's page, which sends its token."""

    async def body(theatre, http):
        foreign, hello = {"Origin": "https://drive.example"}, json.dumps({"type": "hello"})
        assert (await http.post("/poll", content=hello, headers=foreign)).status_code == 401
        await http.get("/", params={"token": TOKEN})  # the cookie that a browser may send along
        assert (await http.post("/poll", content=hello, headers=foreign)).status_code == 403
        assert not theatre.room.viewers
        asked = {**foreign, "Access-Control-Request-Headers": "authorization"}
        asked["Access-Control-Request-Method"] = "POST"
        for path in ("/poll", "/lobby/worlds"):
            before = await http.options(path, headers={**asked, "Cookie": ""})
            assert not before.is_success, "a browser asks first, and sends no Bearer token then"
            assert not any(name.startswith("access-control") for name in before.headers)
        answer = await http.post("/poll", content=hello, headers={**foreign, **BEARER})
        assert answer.status_code == 200

    with_show(body, wait=False)


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
