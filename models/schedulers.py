"""Noise levels, timestep lists and the steps of all stages as pure functions (docs/reference.md
section 3).

Legend: a = cumulative alpha product, T inference steps, G noise groups, W latents per group, F = G
W + 1, K = T/G inner steps. Steps take tensors [..., F', C, h, w] with one timestep per latent of
axis -4.
"""

import functools
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from configs.errors import UserError

TRAIN_STEPS = 1000


def alpha_table() -> Tensor:
    """Return a_t for t = 0..999 in fp64: scaled-linear betas, SNR shift 3, zero terminal SNR
    (section 3.1)."""
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, TRAIN_STEPS, dtype=torch.float64) ** 2
    alphas = torch.cumprod(1 - betas, dim=0)
    alphas = alphas / (3 + (1 - 3) * alphas)
    roots = alphas.sqrt()
    first, last = roots[0].clone(), roots[-1].clone()
    return ((roots - last) * (first / (first - last))) ** 2


@functools.cache
def _alphas() -> tuple[float, ...]:
    return tuple(alpha_table().tolist())


def alpha(timestep: int) -> float:
    """Return a_t in fp64; before the first level (t < 0) it is 1."""
    return _alphas()[timestep] if timestep >= 0 else 1.0


def trailing_timesteps(steps: int) -> list[int]:
    """Return T timesteps, noisiest first: round(1000 - k 1000/T) - 1 (docs/reference.md section
    3.2)."""
    _check_steps(steps, TRAIN_STEPS)
    return [round(TRAIN_STEPS - k * TRAIN_STEPS / steps) - 1 for k in range(steps)]


def consistency_timesteps(steps: int, original_steps: int) -> list[int]:
    """Return T of the O timesteps of the distilled solver, noisiest first (docs/reference.md
    section 3.2)."""
    _check_steps(original_steps, TRAIN_STEPS)
    _check_steps(steps, original_steps)
    stride = TRAIN_STEPS // original_steps
    base = [m * stride - 1 for m in range(original_steps, 0, -1)]
    return [base[k * original_steps // steps] for k in range(steps)]


def _check_steps(steps: int, limit: int) -> None:
    if not 1 <= steps <= limit:
        raise UserError(f"number of steps: expected 1 to {limit}, got {steps}")


def grouped_timesteps(timesteps: Sequence[int], groups: int, window: int) -> list[list[int]]:
    """Return the K x F matrix of a streaming window, row 0 used first (docs/reference.md section
    3.3).

    Column 0 is the conditioning latent at t = 0; group 0, next to leave, is the cleanest.
    """
    if groups < 1 or window < 1 or not timesteps or len(timesteps) % groups:
        raise UserError(
            f"{len(timesteps)} inference steps cannot serve {groups} noise groups of {window}: "
            f"expected a multiple of {groups}"
        )
    ascending, inner = sorted(timesteps), len(timesteps) // groups
    return [
        [0] + [ascending[g * inner + inner - 1 - i] for g in range(groups) for _ in range(window)]
        for i in range(inner)
    ]


def _per_latent(values: Sequence[float], like: Tensor, dtype: torch.dtype) -> Tensor:
    """One value per latent, to multiply [..., F, C, h, w]."""
    return torch.tensor(values, dtype=dtype, device=like.device).view(-1, 1, 1, 1)


def add_noise(latents: Tensor, noise: Tensor, timesteps: Sequence[int]) -> Tensor:
    """Return sqrt(a) x + sqrt(1 - a) n; the levels are cast to the latents' dtype before their
    roots are taken."""
    levels = _per_latent([alpha(t) for t in timesteps], latents, torch.float64).to(latents.dtype)
    return levels.sqrt() * latents + (1 - levels).sqrt() * noise


def predict_clean(latents: Tensor, velocity: Tensor, timesteps: Sequence[int]) -> Tensor:
    """Return x0^ = sqrt(a) z - sqrt(1 - a) v, in the wider of fp32 and the latents' dtype."""
    dtype = torch.promote_types(latents.dtype, torch.float32)
    signal = _per_latent([math.sqrt(alpha(t)) for t in timesteps], latents, dtype)
    spread = _per_latent([math.sqrt(1 - alpha(t)) for t in timesteps], latents, dtype)
    return signal * latents - spread * velocity


def dynamic_guidance(scale: float, timestep: int, steps: int) -> float:
    """Return w of the "dynamic" rule of stage 2, 1 + s (1 - cos(pi ((N - t)/N)^5)) / 2.

    t is the train timestep, so w jumps about between 1 and 1 + s; published results depend on it
    (section 4)."""
    return 1 + scale * (1 - math.cos(math.pi * ((steps - timestep) / steps) ** 5)) / 2


def ddim_step(latents: Tensor, velocity: Tensor, timestep: int, steps: int) -> Tensor:
    """One deterministic DDIM step from `timestep` to timestep - floor(1000/T) (docs/reference.md
    section 3.4, stage 2)."""
    now, then = alpha(timestep), alpha(timestep - TRAIN_STEPS // steps)
    clean = predict_clean(latents, velocity, [timestep])
    spread = math.sqrt((1 - then) / (1 - now))
    # The published code rounds coefficient x latents to the latents' dtype before the wider sum.
    return (latents * spread + (math.sqrt(then) - spread * math.sqrt(now)) * clean).to(
        latents.dtype
    )


def ddim_row_step(
    latents: Tensor, velocity: Tensor, timesteps: Sequence[int], targets: Sequence[int]
) -> Tensor:
    """DDIM with every latent's own timestep and target (t < 0 = clean), in at least fp32: a
    teacher's step."""
    clean = predict_clean(latents, velocity, timesteps)
    levels = [(alpha(t), alpha(to)) for t, to in zip(timesteps, targets, strict=True)]
    spreads = [math.sqrt((1 - then) / (1 - now)) for now, then in levels]
    gains = [
        math.sqrt(then) - s * math.sqrt(now) for (now, then), s in zip(levels, spreads, strict=True)
    ]
    stepped = (
        _per_latent(spreads, latents, clean.dtype) * latents
        + _per_latent(gains, latents, clean.dtype) * clean
    )
    return stepped.to(latents.dtype)


def _half_log_snr(level: float) -> float:
    """lambda(a) = ln sqrt(a / (1 - a)), with its limits at 0 and 1."""
    if level <= 0:
        return -math.inf
    return math.inf if level >= 1 else 0.5 * math.log(level / (1 - level))


def dpm_coefficients(
    timestep: int, previous: int | None, steps: int
) -> tuple[float, float, float, float]:
    """Return (m0, m1, m_n, 1/r) of one latent's DPM++ 2M SDE step (docs/reference.md section 3.4),
    limits included.

    previous: this latent's timestep at the inner step before, None in a first-order step (then 1/r
    = 0)."""
    now, then = alpha(timestep), alpha(timestep - TRAIN_STEPS // steps)
    if then >= 1:
        return 0.0, -1.0, 0.0, 0.0  # z' = x0^
    if now <= 0:
        return 0.0, -math.sqrt(then), math.sqrt(1 - then), 0.0
    step = _half_log_snr(then) - _half_log_snr(now)
    inverse = 0.0
    if previous is not None and alpha(previous) > 0:
        inverse = step / (_half_log_snr(now) - _half_log_snr(alpha(previous)))
    carry = math.sqrt((1 - then) / (1 - now)) * math.exp(-step)
    gain = math.expm1(-2 * step)
    return carry, gain * math.sqrt(then), math.sqrt(1 - then) * math.sqrt(-gain), inverse


def dpm_step(
    latents: Tensor,
    velocity: Tensor,
    timesteps: Sequence[int],
    steps: int,
    noise: Tensor,
    history: tuple[Tensor, Sequence[int]] | None = None,
) -> tuple[Tensor, Tensor]:
    """One DPM++ 2M SDE step with each latent's own timestep (stage 3); returns (latents, x0^ fp64).

    history: x0^ and the timesteps of the inner step before; None makes it first order.
    `dpm_is_second_order` says when the published solver uses it. Arithmetic is fp64, as published.
    """
    wide = latents.double()
    clean = predict_clean(wide, velocity, timesteps)
    before: Sequence[int | None] = history[1] if history else [None] * len(timesteps)
    rows = [dpm_coefficients(t, last, steps) for t, last in zip(timesteps, before, strict=True)]
    carry, gain, spread, inverse = (
        _per_latent(column, wide, wide.dtype) for column in zip(*rows, strict=True)
    )
    estimate = clean
    if history:
        estimate = (1 + inverse / 2) * clean - inverse / 2 * history[0]
    return (carry * wide - gain * estimate + spread * noise).to(latents.dtype), clean


def dpm_is_second_order(inner_step: int, timesteps: Sequence[int], steps: int) -> bool:
    """Say whether the published solver takes second order here: not first, and no latent's target
    is before level 0."""
    return inner_step > 0 and all(t - TRAIN_STEPS // steps >= 0 for t in timesteps)


def phase_edge(timestep: int, phases: int) -> int:
    """Return beta(t): the timestep at which the phase holding t ends (docs/reference.md section
    3.4)."""
    return max(0, timestep * phases // TRAIN_STEPS * TRAIN_STEPS // phases - 1)


def consistency_coefficients(
    timestep: int, following: int | None, phases: int
) -> tuple[float, float, float]:
    """Return (c_skip, c_out, rho) of one phased-consistency step; following = next timestep of the
    list, None = end.

    rho is the share of signal kept when re-noising from the phase edge to `following`; 1 where a
    step lands there."""
    edge = phase_edge(timestep, phases)
    sigma_edge, sigma = math.sqrt(1 - alpha(edge)), math.sqrt(1 - alpha(timestep))
    skip = sigma_edge / sigma
    out = math.sqrt(alpha(edge)) - math.sqrt(alpha(timestep)) * skip
    target = 1.0 if following is None else alpha(following)
    return skip, out, min(1.0, target / (alpha(edge) if edge else 1.0))


def check_phases(timesteps: Sequence[int], phases: int) -> None:
    """Raise UserError when a timestep list (noisiest first) steps beyond its phase edges, as T = 4
    of O = 50 does."""
    for timestep, following in zip(timesteps, [*timesteps[1:], -1], strict=True):
        edge = phase_edge(timestep, phases)
        if 0 <= following < edge:
            raise UserError(
                f"timesteps {list(timesteps)} do not fit {phases} phases: {timestep} must not go below {edge}; choose "
                "original_steps so that phases end on its timesteps (published: 40)"
            )


def consistency_renoises(
    timesteps: Sequence[int], all_timesteps: Sequence[int], phases: int
) -> bool:
    """Say whether a step of these timesteps uses noise; with T = G it never does."""
    following = dict(zip(all_timesteps, [*all_timesteps[1:], None], strict=True))
    return any(consistency_coefficients(t, following[t], phases)[2] < 1 for t in timesteps)


def consistency_step(
    latents: Tensor,
    velocity: Tensor,
    timesteps: Sequence[int],
    all_timesteps: Sequence[int],
    phases: int,
    noise: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """One phased-consistency step with each latent's own timestep (stage 4); returns (latents, y at
    the phase edge).

    all_timesteps: the whole list of the schedule, noisiest first. noise: needed where
    `consistency_renoises` says so. Arithmetic is fp32, results have the latents' dtype.
    """
    following = dict(zip(all_timesteps, [*all_timesteps[1:], None], strict=True))
    skip, out, rho = zip(
        *(consistency_coefficients(t, following[t], phases) for t in timesteps), strict=True
    )
    wide = latents.float()
    clean = predict_clean(wide, velocity, timesteps)
    edge = _per_latent(out, wide, wide.dtype) * clean + _per_latent(skip, wide, wide.dtype) * wide
    stepped = edge
    if noise is not None:
        keep = _per_latent([math.sqrt(r) for r in rho], wide, wide.dtype)
        stepped = (
            keep * edge + _per_latent([math.sqrt(1 - r) for r in rho], wide, wide.dtype) * noise
        )
    return stepped.to(latents.dtype), edge.to(latents.dtype)
