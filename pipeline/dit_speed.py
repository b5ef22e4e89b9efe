"""The transformer group alone, without decoder, show or page: how fast it makes latents."""

import asyncio
import time
from dataclasses import replace
from typing import Final

import torch

from actors.head import check_machine
from actors.layout import Layout, visible_gpus
from actors.solo import latents
from configs.schema import RunConfig
from models.checkpoint import Checkpoint
from models.engines.choose import choose_engine
from models.weight_folder import model_folder
from pipeline.console import Console
from pipeline.launch import check_layout
from pipeline.signals import StopSignals
from pipeline.stage.pacing import percentile

LINE_SECONDS: Final = 1.0  # between two lines of figures
LEAST_STEPS: Final = 3  # before the first line of figures


class DitSpeed:
    """Steps of the transformer group, one line of figures a second."""

    def __init__(self, config: RunConfig, console: Console) -> None:
        """Checks what can be wrong and says which weights are used. Raises UserError."""
        folder, note = model_folder(config.model_path)
        weights = config.choice(folder)
        checkpoint = Checkpoint.open(weights)
        self._layout = Layout.plan(config.num_gpus_dit, 0, visible_gpus(config.visible_devices))
        check_layout(checkpoint, self._layout)
        if config.ray_address is None:
            check_machine()
        device = torch.device("cuda" if self._layout.gpus else "cpu")
        engine = choose_engine(
            checkpoint, device, config.engine, lambda line: console.say("choice", line)
        )
        self._weights = replace(weights, engine=engine.name)
        self._window = checkpoint.streaming.window_size
        self._prompt = config.prompt or checkpoint.default_prompt
        self._config, self._console = config, console
        console.say("model", note or f"model: {folder}")
        for line in (*checkpoint.notes, engine.of(self._layout.dit)):
            console.say("choice", line)

    async def run(self) -> int:
        """Step until a signal comes or the duration is over; the exit code."""
        task = asyncio.create_task(self._steps())

        def stop(reason: str) -> None:
            task.cancel()

        return await StopSignals(stop).run(task)

    async def _steps(self) -> None:
        steps: list[float] = []
        begun = told = None
        duration = self._config.duration
        stream = latents(
            self._weights,
            self._layout,
            seed=self._config.seed,
            prompt=self._prompt,
            window=self._window,
            address=self._config.ray_address,
            say=lambda text: self._console.say("stage", text),
        )
        try:
            async for step, _ in stream:
                now = time.monotonic()
                begun, told = begun or now, told or now
                steps.append(step)
                over = duration is not None and now - begun >= duration
                if (now - told >= LINE_SECONDS and len(steps) >= LEAST_STEPS) or over:
                    self._tell(steps, now - told)
                    told, steps = now, steps[-1:]
                if over:
                    return
        finally:
            await stream.aclose()

    def _tell(self, steps: list[float], seconds: float) -> None:
        speed = (len(steps) - 1) * self._window / seconds
        middle, high = (1000 * percentile(steps, percent) for percent in (50, 95))
        self._console.say(
            "speed",
            f"{speed:.2f} latents/s, step p50 {middle:.1f} ms, p95 {high:.1f} ms",
            latents_per_second=speed,
            step_ms={"p50": middle, "p95": high},
        )
