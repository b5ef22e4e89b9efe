"""The world: a window of latents that dreams on, a group per step, steered by labels
(docs/reference.md section 4).

Legend: G noise groups of W latents, F = G W + 1 latents in the window (index 0 = conditioning
latent, already shown), K inner steps, C x h x w one latent. Latents count from 0 at the start
state; the first emitted one is number 1 there, and `index` 0 in what is emitted.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from configs.errors import UserError
from configs.schema import StreamSettings
from models.attention import check_degree
from models.controls import STRAIGHT_ON, label_id
from models.denoiser import Denoiser
from models.noise import Noise, SeededNoise
from models.parallel import SINGLE, SequenceGroup
from models.schedulers import add_noise
from models.solvers import Draw
from models.transformer import TextTokens, Transformer
from models.transformer_config import TransformerConfig


@dataclass(frozen=True)
class WorldParts:
    """What a world is made of, loaded on one device (`parts.Parts` loads a weight folder's).

    controls [10, Dc]: nine labels and the null control. engine: what computes steps
    (`models.engines`); None is PyTorch. encode: prompts to embeddings [n, N_t, Dt];
    None where prompts come as embeddings.
    """

    transformer: Transformer
    controls: Tensor
    settings: StreamSettings
    encode: Callable[[Sequence[str]], Tensor] | None = None
    engine: str | None = None


@dataclass(frozen=True)
class Emission:
    """Latents that left the window: [W, C, h, w], scaled, on the world's device.

    index: number of the first since reset; labels and cursors: one per latent, what it was
    conditioned on last."""

    index: int
    latents: Tensor
    labels: tuple[str, ...]
    cursors: tuple[int, ...]
    prompt_version: int


@dataclass(frozen=True, eq=False)
class WorldState:
    """Everything a world is between two steps; small, on the CPU. latents [F, C, h, w], text [1 or
    2, N_t, Dt]. Tensors have no equality that is one truth: two states are compared field by field."""

    seed: int
    index: int
    latents: Tensor
    text: Tensor
    labels: tuple[str, ...]
    cursors: tuple[int, ...]
    prompt_version: int


class World:
    """One stream. Every rank of `group` makes the same calls and gets the same results.

    guidance: None = what the weights are served with, 1 = none. size: (h, w) in latents; None = that
    of the weights. noise: stored draws in place of seeded ones. Raises UserError when sizes,
    settings or the number of ranks do not fit the weights.
    """

    def __init__(
        self,
        parts: WorldParts,
        *,
        group: SequenceGroup | None = None,
        guidance: float | None = None,
        size: tuple[int, int] | None = None,
        noise: Noise | None = None,
    ) -> None:
        self.settings = settings = parts.settings
        self.transformer, self._encode = parts.transformer, parts.encode
        self.group = group or SINGLE
        self.shape = _latent_shape(self.transformer.config, size, self.group)
        self.guidance = settings.served_guidance if guidance is None else guidance
        self._stored_noise = self._noise = noise
        weight = self.transformer.proj_out.weight
        self._device, self._dtype = weight.device, weight.dtype
        self._denoiser = Denoiser(
            self.transformer,
            parts.controls,
            settings,
            guidance=self.guidance,
            group=self.group,
            engine=parts.engine,
        )
        self._state: WorldState | None = None
        self._text: TextTokens | None = None

    def branch(self) -> "World":
        """A second world that stands where this one does: the same weights, a future of its own."""
        other = copy.copy(self)  # states are replaced, never changed
        other._denoiser = self._denoiser.branch()
        return other

    @property
    def index(self) -> int:
        """Number of the next latent to be emitted."""
        return self._current.index

    @property
    def labels(self) -> tuple[str, ...]:
        """The window's labels, conditioning latent first."""
        return self._current.labels

    @torch.inference_mode()
    def reset(
        self,
        seed: int,
        prompt: str | Tensor | None = None,
        start: Tensor | None = None,
        labels: Sequence[str] = (),
    ) -> None:
        """Begin a new stream.

        prompt: text, or an embedding as in `set_prompt`; None keeps the one in force. start: clean
        scaled latents [n, C, h, w]; missing ones are zeros, more than F are cut (published
        behaviour). labels: the window's first F labels; missing ones are straight on.
        """
        frames = self.settings.latents
        noise = self._stored_noise or SeededNoise(seed, self.shape)
        window = tuple(labels[:frames]) + (STRAIGHT_ON,) * (frames - len(labels))
        for label in window:
            label_id(label)
        if prompt is None and self._state is None:
            raise UserError("a world needs a prompt at its first reset")
        text = self._current.text if prompt is None else self._embedding(prompt)
        clean = self._start(start)
        noised = add_noise(clean, noise.fresh(0, frames).to(clean), self._denoiser.noisiest)
        self._noise = noise
        self._state = WorldState(
            seed=seed,
            index=0,
            latents=noised,
            text=text,
            labels=window,
            cursors=(0,) * frames,
            prompt_version=0,
        )
        self._project()

    @torch.inference_mode()
    def set_prompt(self, prompt: str | Tensor, version: int | None = None) -> None:
        """Swap the text between two steps; window, positions and controls stay.

        prompt: text, or its embedding [1, N_t, Dt]; with guidance [2, N_t, Dt], the empty prompt's
        second. version: handed back with every emission from now on; one more than the last by
        default.
        """
        version = self._current.prompt_version + 1 if version is None else version
        self._state = replace(self._current, text=self._embedding(prompt), prompt_version=version)
        self._project()

    @torch.inference_mode()
    def step(self, labels: Sequence[str], cursor: int = 0) -> Emission:
        """Denoise the window by one group and emit W latents.

        labels: W labels, sampled now, for the newest group. cursor: number of the newest control
        among them, handed back with the latents it conditions. Raises FloatingPointError when the
        model gives NaN or infinite latents; the world is then as it was before the step.
        """
        state, window, groups = self._current, self.settings.window_size, self.settings.noise_groups
        if len(labels) != window:
            raise UserError(
                f"a step takes {window} labels, one per latent of a group, got {len(labels)}"
            )
        window_labels, cursors = self._advance(state, labels, cursor)
        assert self._text is not None
        latents = self._denoiser.denoise(
            state.latents,
            self._text,
            window_labels,
            lambda inner: self._draw(inner, state.index),
        )
        emitted = latents[1 : 1 + window]
        if not bool(torch.isfinite(emitted).all()):
            raise FloatingPointError(f"latent {state.index} holds NaN or infinite values")
        fresh = self._draws.fresh(state.index + groups * window + 1, window).to(latents)
        self._state = replace(
            state,
            index=state.index + window,
            latents=torch.cat((latents[window:], fresh)),
            labels=window_labels,
            cursors=cursors,
        )
        return Emission(
            index=state.index,
            latents=emitted,
            labels=window_labels[1 : 1 + window],
            cursors=cursors[1 : 1 + window],
            prompt_version=state.prompt_version,
        )

    def state(self) -> WorldState:
        """Return a copy of everything that decides what comes next."""
        state = self._current
        return replace(
            state, latents=state.latents.to("cpu", copy=True), text=state.text.to("cpu", copy=True)
        )

    @torch.inference_mode()
    def load_state(self, state: WorldState) -> None:
        """Go on from a state of a world with the same weights and settings: the same latents
        follow, bit for bit."""
        expected = (self.settings.latents, *self.shape)
        if tuple(state.latents.shape) != expected:
            raise UserError(
                f"world state of shape {tuple(state.latents.shape)} does not fit a window of {expected}"
            )
        self._noise = self._stored_noise or SeededNoise(state.seed, self.shape)
        latents = state.latents.to(self._device, self._dtype, copy=True)
        self._state = replace(
            state, latents=latents, text=state.text.to(self._device, self._dtype, copy=True)
        )
        self._project()

    @property
    def _current(self) -> WorldState:
        if self._state is None:
            raise UserError("the world has not begun: call reset(seed, prompt) first")
        return self._state

    @property
    def _draws(self) -> Noise:
        assert self._noise is not None
        return self._noise

    def _advance(
        self, state: WorldState, labels: Sequence[str], cursor: int
    ) -> tuple[tuple[str, ...], tuple[int, ...]]:
        """Return the window's labels and their cursors for this step.

        Step 0 puts the newest over the last W, later steps shift first. Then the newest label also
        replaces those of the late_labels newest groups, so that it conditions latents which will be
        seen sooner.
        """
        window, frames = self.settings.window_size, self.settings.latents
        kept = slice(0, frames - window) if state.index == 0 else slice(window, frames)
        names = [*state.labels[kept], *labels]
        cursors = [*state.cursors[kept], *[cursor] * window]
        for label in labels:
            label_id(label)
        late = range(frames - window * self.settings.late_labels, frames - window)
        for i in late:
            names[i], cursors[i] = labels[-1], cursor
        return tuple(names), tuple(cursors)

    def _draw(self, inner: int, index: int) -> Draw:
        """Where the solver's noise of this inner step comes from: [G W, C, h, w]."""
        settings = self.settings
        draws = [
            1 + (settings.noise_groups - 1 - group) * settings.inner_steps + inner
            for group in range(settings.noise_groups)
            for _ in range(settings.window_size)
        ]

        def draw(second_order: bool) -> Tensor:
            return self._draws.step(index + 1, draws, second_order).to(self._device)

        return draw

    def _start(self, start: Tensor | None) -> Tensor:
        """Return clean start latents [F, C, h, w], padded with zeros or cut."""
        clean = torch.zeros(
            self.settings.latents, *self.shape, device=self._device, dtype=self._dtype
        )
        if start is not None and start.numel():
            if start.dim() != 4 or tuple(start.shape[1:]) != self.shape:
                raise UserError(
                    f"start latents of shape {tuple(start.shape[1:])} do not fit this world of {self.shape} "
                    "(channels, height / 8, width / 8)"
                )
            if not bool(torch.isfinite(start).all()):
                raise UserError("start latents hold NaN or infinite values; give finite ones")
            clean[: start.shape[0]] = start[: clean.shape[0]].to(clean)
        return clean

    def _embedding(self, prompt: str | Tensor) -> Tensor:
        rows = 1 if self.guidance == 1.0 else 2
        if isinstance(prompt, str):
            assert self._encode is not None, "this world takes embeddings"
            prompt = self._encode([prompt, ""][:rows])
        width = self.transformer.config.text_embed_dim
        if prompt.dim() != 3 or prompt.shape[0] < rows or prompt.shape[2] != width:
            raise UserError(
                f"prompt embedding: expected shape [{rows}, tokens, {width}], got {list(prompt.shape)}"
            )
        return prompt[:rows].to(self._device, self._dtype)

    def _project(self) -> None:
        self._text = self.transformer.embed_text(self._current.text, self.group)


def _latent_shape(
    config: TransformerConfig, size: tuple[int, int] | None, group: SequenceGroup
) -> tuple[int, int, int]:
    """Return (C, h, w) after checking the size against patches and ranks."""
    h, w = size or (config.sample_height, config.sample_width)
    patch = config.patch_size
    if h < patch or w < patch or h % patch or w % patch:
        raise UserError(f"size {w}x{h} in latents: expected multiples of {patch}")
    check_degree(group.size, config.num_attention_heads, (h // patch) * (w // patch))
    return config.in_channels, h, w
