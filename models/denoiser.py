"""One outer step's computing: K inner steps bring a window one phase closer to clean (docs/reference.md
section 4).

Legend: F latents in the window (index 0 = conditioning latent), C x h x w one latent.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from configs.schema import StreamSettings
from models.controls import NULL_ID, label_id
from models.engines.serve import served_stepper
from models.parallel import SequenceGroup
from models.schedulers import grouped_timesteps
from models.solvers import Draw, make_solver
from models.transformer import TextTokens, Timestep, Transformer


@dataclass(frozen=True)
class _Row:
    """One inner step's timesteps with all that they determine."""

    timesteps: list[int]
    modulation: Timestep
    keys: list[tuple[Tensor, Tensor]]  # of the whole control vocabulary


class Denoiser:
    """What is the same in every outer step is computed once: modulation of every row of timesteps,
    keys and values of all control vectors."""

    def __init__(
        self,
        transformer: Transformer,
        controls: Tensor,
        settings: StreamSettings,
        *,
        guidance: float,
        group: SequenceGroup,
        engine: str | None,
    ) -> None:
        """controls [10, Dc]: nine labels and the null control. Raises UserError for a schedule that
        the solver cannot follow."""
        self._settings, self._guidance = settings, guidance
        self._solver = make_solver(settings)
        matrix = grouped_timesteps(
            self._solver.timesteps, settings.noise_groups, settings.window_size
        )
        with torch.inference_mode():
            vocabulary = controls[None].to(transformer.proj_out.weight)
            self._rows = [_prepare(transformer, timesteps, vocabulary) for timesteps in matrix]
        ready = [(row.modulation, row.keys) for row in self._rows]
        self._stepper = served_stepper(transformer, ready, group, engine)

    def branch(self) -> "Denoiser":
        """The same for a second world: what the solver remembers is one world's."""
        other = copy.copy(self)
        other._solver = make_solver(self._settings)
        return other

    @property
    def noisiest(self) -> list[int]:
        """The timesteps [F] of a window before its first inner step."""
        return self._rows[0].timesteps

    def denoise(
        self,
        latents: Tensor,
        text: TextTokens,
        labels: Sequence[str],
        draw: Callable[[int], Draw],
    ) -> Tensor:
        """Run the K inner steps on the window [F, C, h, w]; the conditioning latent stays as it is.
        draw: where the solver's noise of an inner step comes from."""
        self._solver.forget()
        rows = torch.tensor([label_id(label) for label in labels], device=latents.device)
        prompt = text._replace(tokens=text.tokens[:1])
        unheld, further = torch.full_like(rows, NULL_ID), self._settings.control_guidance - 1
        for i, row in enumerate(self._rows):
            velocities = self._stepper.velocity(latents, text, i, rows)
            velocity = guide(velocities, self._guidance)
            if further:
                unsteered = self._stepper.velocity(latents, prompt, i, unheld)
                velocity = velocity + further * (velocities[0] - unsteered[0])
            stepped = self._solver.step(i, latents[1:], velocity[1:], row.timesteps[1:], draw(i))
            latents = torch.cat((latents[:1], stepped))
        return latents


def guide(velocity: Tensor, scale: float) -> Tensor:
    """Return v [F, C, h, w] from a batch of one, or classifier-free guidance of (prompt, empty
    prompt)."""
    if velocity.shape[0] == 1:
        return velocity[0]
    positive, negative = velocity
    return negative + scale * (positive - negative)


def _prepare(transformer: Transformer, timesteps: list[int], vocabulary: Tensor) -> _Row:
    modulation = transformer.modulate(torch.tensor([timesteps], device=vocabulary.device))
    return _Row(timesteps, modulation, transformer.control_keys(vocabulary, modulation))
