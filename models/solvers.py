"""The two solvers of a stream, each with what it remembers between the inner steps of an outer one
(docs/reference.md section 3.4).

A solver steps the G W moving latents [G W, C, h, w] of a window, each with its own timestep.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

from torch import Tensor

from configs.schema import StreamSettings
from models.schedulers import (
    check_phases,
    consistency_renoises,
    consistency_step,
    consistency_timesteps,
    dpm_is_second_order,
    dpm_step,
    trailing_timesteps,
)

Draw = Callable[[bool], Tensor]  # noise of this inner step; the flag is `Noise.step`'s second_order


class Solver(Protocol):
    """What turns velocities into the next, cleaner latents."""

    timesteps: list[int]  # the whole schedule, noisiest first

    def forget(self) -> None:
        """A new outer step begins: nothing is remembered."""

    def step(
        self, inner: int, latents: Tensor, velocity: Tensor, timesteps: Sequence[int], draw: Draw
    ) -> Tensor:
        """Inner step ``inner`` of the outer one: latents and velocity [G W, C, h, w] at
        ``timesteps``."""


class ConsistencySolver:
    """Phased consistency, stage 4: remembers nothing."""

    def __init__(self, settings: StreamSettings) -> None:
        """Raises UserError when the timesteps do not end on the phases."""
        self.timesteps = consistency_timesteps(settings.inference_steps, settings.original_steps)
        self._phases = settings.noise_groups
        check_phases(self.timesteps, self._phases)

    def forget(self) -> None:
        pass

    def step(
        self, inner: int, latents: Tensor, velocity: Tensor, timesteps: Sequence[int], draw: Draw
    ) -> Tensor:
        noise = None
        if consistency_renoises(timesteps, self.timesteps, self._phases):
            noise = draw(False)
        stepped, _ = consistency_step(
            latents, velocity, timesteps, self.timesteps, self._phases, noise
        )
        return stepped


class DpmSolver:
    """DPM++ 2M SDE, stage 3: remembers the clean estimate of the inner step before."""

    def __init__(self, settings: StreamSettings) -> None:
        self._steps = settings.inference_steps
        self.timesteps = trailing_timesteps(self._steps)
        self._before: tuple[Tensor, Sequence[int]] | None = None

    def forget(self) -> None:
        self._before = None

    def step(
        self, inner: int, latents: Tensor, velocity: Tensor, timesteps: Sequence[int], draw: Draw
    ) -> Tensor:
        second = dpm_is_second_order(inner, timesteps, self._steps)
        stepped, clean = dpm_step(
            latents,
            velocity,
            timesteps,
            self._steps,
            draw(second),
            self._before if second else None,
        )
        self._before = clean, timesteps
        return stepped


def make_solver(settings: StreamSettings) -> Solver:
    """The solver that the settings name. Raises UserError for a schedule it cannot follow."""
    return ConsistencySolver(settings) if settings.distilled else DpmSolver(settings)
