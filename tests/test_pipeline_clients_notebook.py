"""A world inside a notebook: a real Jupyter server and kernel, a real Chromium, real keys."""

import asyncio
import json
import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ipykernel", reason="the extra [test] brings it")
pytest.importorskip("anywidget", reason="the extra [test] brings it")
from jupyter_client.manager import AsyncKernelManager

from configs.errors import UserError
from pipeline.clients.notebook import drive
from pipeline.video import decode_jpeg
from tests.browser import chromium, needs_chromium, page
from tests.places import ROOT

TOKEN = "t" * 20
CELLS = (
    "from the_matrix import the_matrix\n"
    "from pipeline.clients.notebook import drive\n"
    "live = the_matrix().live('A red car in the snow at night.', seed=7)\n"
    "drive(live)",
    "print('latents', live.index, set(live.labels))",
    "import time\n"
    "begun = time.monotonic()\n"
    "for _ in range(12):\n"
    "    live.step('D')\n"
    "print('alone', 12 / (time.monotonic() - begun))",
)


def notebook(folder: Path) -> None:
    """A notebook of these cells, as people have it on their disk."""
    empty: dict[str, object] = {
        "cell_type": "code",
        "metadata": {},
        "outputs": [],
        "execution_count": None,
    }
    cells = [{**empty, "id": str(n), "source": text} for n, text in enumerate(CELLS)]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    content = {"cells": cells, "metadata": kernel, "nbformat": 4, "nbformat_minor": 5}
    (folder / "drive.ipynb").write_text(json.dumps(content))


async def jupyter(folder: Path) -> tuple[asyncio.subprocess.Process, str]:
    """A Jupyter server over a folder; its process and address."""
    options = ("--no-browser", "--allow-root", f"--IdentityProvider.token={TOKEN}", "--port=0")
    quiet = ("--ServerApp.port_retries=0", "--LabApp.news_url=None")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "jupyterlab", *options, *quiet),
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "JUPYTER_CONFIG_DIR": str(folder / "config")},
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stderr is not None
    while line := (await process.stderr.readline()).decode():
        if found := re.search(r"http://127\.0\.0\.1:(\d+)/lab", line):
            asyncio.ensure_future(process.stderr.read())
            return process, f"http://127.0.0.1:{found[1]}/lab/tree/drive.ipynb?token={TOKEN}"
    raise AssertionError("Jupyter did not start")


async def driven(folder: Path) -> dict[str, object]:
    """Run the first cell, drive left, let go, run the others; what was seen."""
    notebook(folder)
    process, address = await jupyter(folder)
    try:
        async with chromium() as browser, page(browser, address) as tab:
            await tab.wait_for_selector(".jp-Notebook .cm-content", timeout=60_000)
            # the status bar knows: the notebook's own light is idle before there is a kernel, and
            # a cell that is run then is passed over without a word
            idle = tab.get_by_text("Python 3 (ipykernel) | Idle")
            await idle.wait_for(state="attached", timeout=60_000)
            await tab.click(".jp-Notebook .cm-content >> nth=0")
            await tab.keyboard.press("Shift+Enter")
            player = tab.locator("[role=application]")
            await player.wait_for(timeout=90_000)
            await tab.wait_for_timeout(500)
            await player.click()
            await tab.keyboard.down("KeyA")
            await tab.wait_for_function(
                "document.querySelector('[role=application]').dataset.latent >= 12", timeout=60_000
            )
            said = await player.inner_text()
            begun = await tab.evaluate("performance.now()")
            first = int(await player.get_attribute("data-latent") or 0)
            await tab.wait_for_timeout(4000)
            passed = (await tab.evaluate("performance.now()") - begun) / 1000
            rate = (int(await player.get_attribute("data-latent") or 0) - first) / passed
            await tab.keyboard.up("KeyA")
            lit = await tab.evaluate(
                """() => { const c = document.querySelector('[role=application] canvas');
                const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;
                return d.filter((v, i) => i % 4 < 3 && v > 40).length / d.length; }"""
            )
            await tab.keyboard.press("Escape")
            await tab.wait_for_timeout(1000)
            stood = await player.get_attribute("data-latent")
            await tab.click(".jp-Notebook .cm-content >> nth=1")
            await tab.keyboard.press("Shift+Enter")
            output = tab.locator(".jp-OutputArea-output", has_text="latents")
            told = await output.first.inner_text(timeout=30_000)
            await tab.keyboard.press("Shift+Enter")
            output = tab.locator(".jp-OutputArea-output", has_text="alone")
            alone = float((await output.first.inner_text(timeout=60_000)).split()[1])
            await tab.screenshot(path=str(folder / "notebook.png"))
            shown = {"said": said, "rate": rate, "lit": lit, "stood": stood, "told": told}
            return {**shown, "alone": alone}
    finally:
        process.terminate()
        await process.wait()


@needs_chromium
@pytest.mark.soak
def test_a_world_is_driven_in_a_real_notebook(tmp_path: Path) -> None:
    pytest.importorskip("jupyterlab", reason="the extra [soak] is not installed")
    seen = asyncio.run(driven(tmp_path))
    assert "DL" in str(seen["said"]) and float(str(seen["lit"])) > 0.2
    alone = float(str(seen["alone"]))  # what a loop of steps makes here, whatever else runs
    assert float(str(seen["rate"])) > 0.75 * min(4.0, alone), seen
    assert f"latents {seen['stood']} " in str(seen["told"]) and "DL" in str(seen["told"])


async def through_a_kernel() -> tuple[list[dict[str, Any]], list[bytes], str]:
    """Drive left for three latents from a front end's side of a real kernel; what came, and what
    the next cell says."""
    manager = AsyncKernelManager(kernel_name="python3")
    await manager.start_kernel(cwd=str(ROOT), env={**os.environ, "PYTHONPATH": str(ROOT)})
    client = manager.client()
    client.start_channels()
    try:
        await client.wait_for_ready(timeout=60)
        client.execute(CELLS[0])
        comm, told, pictures, said = "", [], [], ""

        def tell(**content: Any) -> None:
            data = {"method": "custom", "content": content}
            body = {"comm_id": comm, "data": data}
            client.shell_channel.send(client.session.msg("comm_msg", body))

        while "latents" not in said:
            message = await client.get_iopub_msg(timeout=60)
            kind, content = message["msg_type"], message["content"]
            assert kind != "error", content
            if kind == "comm_open" and "_esm" in content["data"].get("state", {}):
                comm = content["comm_id"]
                tell(kind="keys", driving=True, held=["left"])
            elif kind == "comm_msg" and content["data"].get("method") == "custom":
                told.append(content["data"]["content"])
                pictures += [bytes(data) for data in message["buffers"]]
                tell(kind="shown")
                if len(told) == 3:
                    tell(kind="keys", driving=False, held=[])
                    client.execute(CELLS[1])
            elif kind == "stream":
                said += content["text"]
        return told, pictures, said
    finally:
        client.stop_channels()
        await manager.shutdown_kernel(now=True)


def test_a_world_is_driven_through_a_real_kernel() -> None:
    told, pictures, said = asyncio.run(through_a_kernel())
    assert [message["latent"] for message in told[:3]] == [1, 2, 3]
    assert {message["label"] for message in told} == {"DL"}
    assert len(pictures) == 4 * len(told)
    assert {decode_jpeg(picture).shape for picture in pictures} == {(96, 144, 3)}
    assert f"latents {told[-1]['latent']} {{'DL'}}" in said  # it stands while nobody drives


def test_outside_a_notebook_it_is_one_line() -> None:
    with pytest.raises(UserError, match="expected a notebook"):
        drive(None)  # type: ignore[arg-type]
