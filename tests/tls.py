"""A certificate made for a test, and a reverse proxy that speaks TLS for whoever stands behind
it."""

import asyncio
import contextlib
import ssl
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest


def certificate(folder: Path, *names: str) -> tuple[Path, Path]:
    """(certificate, key) in PEM for localhost and other names; without an openssl program the test
    is skipped."""
    pair = folder / "cert.pem", folder / "key.pem"
    subject = ["-subj", "/CN=localhost", "-addext"]
    subject.append(
        "subjectAltName=IP:127.0.0.1," + ",".join(f"DNS:{name}" for name in ("localhost", *names))
    )
    make = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    try:
        subprocess.run(
            [*make, "-out", pair[0], "-keyout", pair[1], *subject], check=True, capture_output=True
        )
    except FileNotFoundError:
        pytest.skip("no openssl program to make a certificate with")
    return pair


@contextlib.asynccontextmanager
async def tls_proxy(target: int, pair: tuple[Path, Path]) -> AsyncIterator[int]:
    """The port of a proxy on 127.0.0.1 that passes everything on to ``target``, bare of its TLS."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*pair)

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", target)
        await asyncio.gather(
            pump(reader, far_writer), pump(far_reader, writer), return_exceptions=True
        )

    server = await asyncio.start_server(connect, "127.0.0.1", 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
