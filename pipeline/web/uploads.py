"""A world in a file comes in: posted to an address that only the driver was told."""

import asyncio
import re
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final, TypeVar

from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from configs.errors import UserError
from pipeline.web.travel import LARGEST_UPLOAD, Travel

Read = TypeVar("Read")
UPLOAD_SECONDS: Final = 300.0  # for the whole of a file
PIECE_SECONDS: Final = 10.0  # for the next piece of it


class Uploads:
    """Receives worlds for a room, one at a time. A file is read and gone again."""

    def __init__(self, travel: Travel) -> None:
        self._travel = travel
        self._busy = asyncio.Lock()
        self.routes = [Route("/open/{name}", self._receive, methods=["POST"])]

    async def _receive(self, request: Request) -> Response:
        viewer = self._travel.uploader(request.path_params["name"])
        if viewer is None:
            return PlainTextResponse("nobody was told this address\n", 410)
        if self._busy.locked():
            return PlainTextResponse("another world is being opened; try again later\n", 409)
        async with self._busy:
            try:
                await received(request, lambda path: self._travel.open(viewer, path))
            except UserError as error:
                return PlainTextResponse(f"{error}\n", 400)
        return Response(status_code=204)


async def received(request: Request, read: Callable[[Path], Awaitable[Read]]) -> Read:
    """What ``read`` makes of the file in the body of a request, which is gone afterwards. Raises
    UserError."""
    with tempfile.TemporaryDirectory(prefix="matrix-") as folder:
        path = Path(folder) / "sent.world"
        try:
            await _store(request, path)
            return await read(path)
        except UserError as error:
            line = re.sub(f"(snapshot )?{re.escape(str(path))}", "this file", str(error))
            raise UserError(line) from None
        except ClientDisconnect:
            raise UserError("the file did not come whole") from None


async def _store(request: Request, path: Path) -> None:
    """Write the body. Raises UserError beyond LARGEST_UPLOAD bytes, UPLOAD_SECONDS, or when nothing
    comes for PIECE_SECONDS."""
    size = 0
    try:
        async with asyncio.timeout(UPLOAD_SECONDS):
            with path.open("xb") as file:
                pieces = aiter(request.stream())
                while piece := await asyncio.wait_for(anext(pieces, b""), PIECE_SECONDS):
                    size += len(piece)
                    if size > LARGEST_UPLOAD:
                        raise UserError(f"expected at most {LARGEST_UPLOAD >> 20} MiB")
                    file.write(piece)
    except TimeoutError:
        raise UserError(
            f"the file came too slowly; at most {UPLOAD_SECONDS:.0f} s for it"
        ) from None
    except OSError as error:
        raise UserError(f"the file cannot be kept here ({error.strerror or error})") from None
