"""The page behind anything, in a real Chromium: a sub-path, tunnels that rename, links from other
sites, filters without WebSockets; and what stays shut."""

import asyncio
import contextlib
import os
import re
import sys

import pytest

from pipeline.web import room
from tests.browser import chromium, eventually, needs_chromium, page, playing, so, text
from tests.live import TOKEN, live
from tests.proxy import proxy
from tests.until import until

pytestmark = [needs_chromium, pytest.mark.timeout(180)]


@contextlib.asynccontextmanager
async def site(*bodies):
    """A site on a port of its own: /0, /1, ... are documents; yields (port, heads that came)."""
    heads = []

    async def answer(reader, writer):
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            heads.append(head)
            which = head.split(" ")[1].lstrip("/")
            body = bodies[int(which)].encode() if which.isdigit() else b""
            size = f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
            writer.write(f"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n{size}".encode() + body)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1], heads
    finally:
        server.close()


async def drives(theatre, tab):
    """The page plays and its keys steer."""
    await playing(tab)
    await tab.keyboard.down("KeyA")
    await until(lambda: theatre.show.held == "DL")
    await tab.keyboard.up("KeyA")
    await until(lambda: theatre.show.held == "D")


def test_it_works_under_a_path_and_leaves_its_cookie_there(run, tmp_path):
    async def body(theatre, browser):
        async with proxy(theatre.port, "/user/ann/proxy/8000") as port:
            address = f"http://127.0.0.1:{port}/user/ann/proxy/8000/"
            async with page(browser, f"{address}?token={TOKEN}") as tab:
                await drives(theatre, tab)
                assert tab.url == address
                (cookie,) = await tab.context.cookies()
                assert cookie["path"].startswith("/user/ann/proxy/8000")
                await tab.click("#record")
                await so(tab, "document.getElementById('record-text').textContent == '0:01'")
                await tab.click("#record")
                await tab.wait_for_selector("#files a", state="attached")
                await tab.click("#show-drawer")
                async with tab.expect_download() as download:
                    await tab.click("#files a:text('mp4')")
                assert (await (await download.value).path()).stat().st_size > 300
                await tab.reload()
                await drives(theatre, tab)

    run(body, recordings=tmp_path)


@pytest.mark.parametrize(
    "renamed",
    [
        (("Host", "localhost:8000"),),
        (("Origin", "http://localhost:1"),),
        (("Host", "127.0.0.1"), ("Origin", "https://far.example")),
    ],
)
def test_it_works_through_tunnels_that_rename_host_or_origin(run, renamed):
    async def body(theatre, browser):
        async with (
            proxy(theatre.port, renamed=renamed) as port,
            page(browser, f"http://127.0.0.1:{port}/?token={TOKEN}") as tab,
        ):
            await drives(theatre, tab)

    run(body)


def test_the_printed_address_opens_from_a_link_on_another_site(run):
    async def body(theatre, browser):
        link = f'<a id="go" href="{theatre.url}#seed=7&prompt=a&controls=DL*8">the world</a>'
        async with (
            site(link) as (port, _),
            page(browser, f"http://localhost:{port}/0") as tab,  # localhost is another site
        ):
            await tab.click("#go")
            await playing(tab)
            await tab.wait_for_selector("#ask[open]")
            assert "seed 7" in await text(tab, "#ask-text") and TOKEN not in tab.url

    run(body)


def test_where_websockets_are_blocked_it_says_so_and_goes_on_over_plain_http(run):
    async def body(theatre, browser):
        async with (
            proxy(theatre.port, "/proxy/1", sockets=False) as port,
            page(browser, f"http://127.0.0.1:{port}/proxy/1/?token={TOKEN}") as tab,
        ):
            await so(tab, "document.getElementById('toasts').textContent.includes('blocked')")
            await drives(theatre, tab)
            frames = theatre.room.viewers[0].sent_bytes
            await eventually(lambda: grown(theatre, frames + 30_000), 5)
            await tab.keyboard.press("Space")
            await tab.wait_for_selector("#theatre[data-phase=paused]")
            await tab.close()
            await until(lambda: not theatre.room.viewers, 10)

    async def grown(theatre, size):
        return theatre.room.viewers[0].sent_bytes > size

    run(body)


def test_who_is_refused_over_plain_http_is_told_why(run, monkeypatch):
    monkeypatch.setattr(room, "MOST_VIEWERS", -room.KEPT_SEATS)

    async def body(theatre, browser):
        async with (
            proxy(theatre.port, sockets=False) as port,
            page(browser, f"http://127.0.0.1:{port}/?token={TOKEN}") as tab,
        ):
            await so(tab, "document.getElementById('banner').textContent.includes('room is full')")
            monkeypatch.setattr(room, "MOST_VIEWERS", 8)
            await playing(tab)

    run(body)


@contextlib.asynccontextmanager
async def jupyter(folder):
    """The port of a real Jupyter server with the extension that passes /proxy/PORT/ on."""
    command = (sys.executable, "-m", "jupyter", "server", "--no-browser", "--allow-root")
    options = ("--ServerApp.port=0", "--IdentityProvider.token=", "--ServerApp.port_retries=0")
    homes = {name: str(folder) for name in ("HOME", "JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR")}
    process = await asyncio.create_subprocess_exec(
        *command, *options, cwd=folder, env={**os.environ, **homes}, stderr=asyncio.subprocess.PIPE
    )
    assert process.stderr is not None
    try:
        async with asyncio.timeout(60):
            while not (
                found := re.search(rb"http://127.0.0.1:(\d+)/", line := await said(process))
            ):
                assert line, "the Jupyter server did not start"
        draining = asyncio.create_task(process.stderr.read())
        yield int(found[1])
    finally:
        process.terminate()
        await process.wait()
    await draining


async def said(process):
    return await process.stderr.readline()


def test_it_works_behind_a_real_jupyter_server(run, tmp_path):
    pytest.importorskip("jupyter_server_proxy")

    async def body(theatre, browser):
        async with jupyter(tmp_path) as port:
            address = f"http://127.0.0.1:{port}/proxy/{theatre.port}/"
            async with page(browser, f"{address}?token={TOKEN}") as tab:
                await drives(theatre, tab)
                assert tab.url == address and "blocked" not in await text(tab, "#toasts")

    run(body)


# --- what stays shut ---

OPEN_SOCKET = """async address => await new Promise(done => { const socket = new WebSocket(address);
  socket.onopen = () => socket.send('{"type": "hello"}');
  socket.onmessage = ({data}) => done(JSON.parse(data).type); socket.onclose = () => done('closed'); })"""
FETCH = """async ([address, options]) => { try { return (await (await fetch(address, options)).text()); }
  catch { return 'unreadable'; } }"""


def test_a_page_of_another_port_or_site_gets_nothing_though_the_cookie_is_there(run):
    async def body(theatre, browser):
        async with site("elsewhere") as (port, heads), page(browser, theatre.url) as tab:
            await playing(tab)
            for host, shares_cookies in (("127.0.0.1", True), ("localhost", False)):
                other = await tab.context.new_page()
                await other.goto(f"http://{host}:{port}/0")
                assert ("matrix_" in heads[-1]) is shares_cookies, "cookies do not know ports"
                socket = f"ws://127.0.0.1:{theatre.port}/live"
                assert await other.evaluate(OPEN_SOCKET, socket) in ("bye", "closed")
                for path in ("", "metrics", "poll"):
                    posted = (
                        {"method": "POST", "body": '{"type":"hello"}'} if path == "poll" else {}
                    )
                    asked = [f"{theatre.origin}/{path}", {"credentials": "include", **posted}]
                    assert await other.evaluate(FETCH, asked) == "unreadable"
            assert len(theatre.room.viewers) == 1
            assert TOKEN not in str(heads)

    run(body)


def test_it_cannot_be_framed(run):
    async def body(theatre, browser):
        async with page(browser, theatre.url) as tab:
            await playing(tab)
            frame = f'<iframe src="{theatre.origin}/"></iframe>'
            async with site(frame) as (port, _):
                other = await tab.context.new_page()
                await other.goto(f"http://127.0.0.1:{port}/0")
                await asyncio.sleep(0.5)
                (inner,) = other.frames[1:]
                assert not await inner.locator("#theatre").count()
                assert len(theatre.room.viewers) == 1

    run(body)


def test_a_name_that_was_bound_to_this_machine_behind_its_back_gets_nothing(desk):
    async def whole(_):
        rules = "--host-resolver-rules=MAP evil.example 127.0.0.1"
        async with live() as theatre, chromium(rules) as browser:
            address = f"http://evil.example:{theatre.port}"
            async with page(browser, f"{address}/?token={TOKEN}") as tab:
                assert "not served here" in await tab.inner_text("body")
                socket = f"{address.replace('http', 'ws')}/live"
                assert await tab.evaluate(OPEN_SOCKET, socket) == "closed"

    desk(whole)
