"""Stage 4: one model call per latent, by phased consistency on the student's own streams.

Streams are driven by changing labels (which also replace those of the newest groups: late labels)
and now and then by a new prompt. In every state the student itself has come to, the teacher walks
each noise group down to the end of its phase in small DDIM steps; the student learns to get there
in one call. Only the transformer changes.

That alone makes means, and a mean is blurred: a judge of latents, if the settings want one, tells
the steps of the simulator from the student's, which then wants its own to be taken for true."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from configs.errors import UserError
from models.controls import LABELS, NULL_ID
from models.device import pick_device
from models.parallel import SINGLE, SequenceGroup
from models.schedulers import (
    alpha,
    consistency_coefficients,
    consistency_timesteps,
    ddim_row_step,
    phase_edge,
)
from models.transformer import Transformer
from training import autoencoder, diffusion, text
from training.adversary import Judge, balance, judge_loss, judged_steps, wish
from training.captions import TEXT_LENGTH
from training.diffusion import Batches, WorldModel
from training.drivers import random_labels
from training.optimise import Average, Optimiser
from training.run import WEIGHTS, Run, generator, part, read_state, started
from training.settings import TrainSettings

ORIGINAL_STEPS = 40
NEW_STREAM, NEW_PROMPT = 1 / 40, 1 / 25  # chances per step
TEACHER_SHARE = 0.3  # of states continue from the teacher's latents, not the student's
JUDGE_MUON_RATE = 0.004
BROKEN = 8.0  # a latent beyond this many deviations ends its stream


def timestep_row(groups: int) -> list[int]:
    """The one row of timesteps of a stream that calls the model once per latent: [0, 499, 999] for
    two groups."""
    return [0, *reversed(consistency_timesteps(groups, ORIGINAL_STEPS))]


def phase_edges(groups: int) -> list[int]:
    """Where each entry of the row ends up: [0, 0, 499] for two groups."""
    return [0, *(phase_edge(t, groups) for t in timestep_row(groups)[1:])]


class Streams(nn.Module):
    """The student and the streams it is dreaming; both are saved with the run."""

    window: Tensor
    labels: Tensor
    tokens: Tensor
    run_left: Tensor
    alive: Tensor

    def __init__(
        self,
        student: WorldModel,
        batches: Batches,
        count: int,
        seed: int,
        groups: int,
        judge: Judge | None = None,
    ) -> None:
        super().__init__()
        self.row, self.edges = timestep_row(groups), phase_edges(groups)
        self.student, self.batches, self.seed = student, batches, seed
        self.judge = judge
        shape = batches.data.latents.shape[2:]
        self.register_buffer("window", torch.zeros(count, groups + 1, *shape))
        self.register_buffer("labels", torch.zeros(count, groups + 1, dtype=torch.long))
        self.register_buffer("tokens", torch.zeros(count, TEXT_LENGTH, dtype=torch.long))
        self.register_buffer("run_left", torch.zeros(count, dtype=torch.long))
        self.register_buffer("alive", torch.zeros(count, dtype=torch.bool))

    @torch.no_grad()
    def prepare(self, sample: int, late_labels: int) -> None:
        """Starts streams that ended, and gives every stream this step's label."""
        rng = np.random.default_rng((self.seed, 4, sample))
        for i in range(len(self.window)):
            fresh = not bool(self.alive[i])
            if fresh:
                self._start(i, rng)
            elif rng.random() < NEW_PROMPT:
                clip = int(rng.integers(len(self.batches.data.scenes)))
                self.tokens[i] = torch.tensor(
                    self.batches.tokens(self.batches.data.scenes[clip, -1].tolist(), rng)
                )
            labels = self.labels[i].roll(0 if fresh else -1)
            if int(self.run_left[i]) == 0:
                run = random_labels(rng, 9)
                labels[-1] = LABELS.index(run[0])
                self.run_left[i] = next(
                    (k for k, label in enumerate(run) if label != run[0]), len(run)
                )
            elif not fresh:
                labels[-1] = self.labels[i, -1]
            labels[-late_labels:] = labels[-1].clone()
            self.labels[i] = labels
            self.run_left[i] -= 1

    def _start(self, i: int, rng: np.random.Generator) -> None:
        latents, labels, tokens = self.batches.windows(rng, 1, len(self.row))
        self.window[i] = noised(
            latents, self.row, generator(self.seed, 5, int(rng.integers(2**31)))
        )[0]
        self.labels[i], self.tokens[i] = labels[0], tokens[0]
        self.run_left[i], self.alive[i] = 0, True

    def contest(self, judge: Judge, sample: int, reached: Tensor) -> tuple[Tensor, Tensor]:
        """The student's wish for the latents that it emits, and the judge's own loss."""
        rng = np.random.default_rng((self.seed, 8, sample))
        latents, labels, _ = self.batches.windows(rng, len(self.window), 2)
        latents = noised(latents, [0, 0], generator(self.seed, 9, sample)).to(reached)
        true = judged_steps(latents[:, 0], latents[:, 1], labels[:, 1].to(reached.device))
        made = judged_steps(self.window[:, 0], reached[:, 0], self.labels[:, 1])
        return wish(judge, made), judge_loss(judge, made, true)

    @torch.no_grad()
    def advance(self, sample: int, student: Tensor, teacher: Tensor) -> None:
        """Every stream goes on from the student's (or sometimes the teacher's) latents; some
        end."""
        rng = np.random.default_rng((self.seed, 6, sample))
        mine = torch.from_numpy(rng.random(len(self.window)) >= TEACHER_SHARE).to(
            self.window.device
        )
        moved = torch.where(mine[:, None, None, None, None], student, teacher)
        noise = torch.randn(moved[:, :1].shape, generator=generator(self.seed, 7, sample)).to(moved)
        self.window.copy_(torch.cat([moved, noise], 1))
        ended = torch.from_numpy(rng.random(len(self.window)) < NEW_STREAM).to(moved.device)
        self.alive.copy_(~(ended | (self.window.abs().amax((1, 2, 3, 4)) > BROKEN)))


def _column(values: list[float]) -> Tensor:
    return torch.tensor(values)[:, None, None, None]


def signal_and_spread(timesteps: list[int]) -> tuple[Tensor, Tensor]:
    """sqrt(a_t) and sqrt(1 - a_t), each [n, 1, 1, 1]."""
    alphas = [alpha(t) for t in timesteps]
    return _column([math.sqrt(a) for a in alphas]), _column([math.sqrt(1 - a) for a in alphas])


def noised(latents: Tensor, row: list[int], rng: torch.Generator) -> Tensor:
    """Clean latents [B, n, C, h, w] at the noise levels of n timesteps."""
    signal, spread = (column.to(latents) for column in signal_and_spread(row))
    return signal * latents + spread * torch.randn(latents.shape, generator=rng).to(latents)


@torch.no_grad()
def teacher_end(
    teacher: WorldModel,
    streams: Streams,
    steps: int,
    guidance: float = 1.0,
    control_guidance: float = 1.0,
) -> Tensor:
    """Walks every noise group down to its phase edge in `steps` DDIM steps: [B, G, C, h, w].

    guidance, control_guidance: how far to go from what the teacher does without a text, without
    labels, to what it does with them. Above 1 the student learns to follow prompts and keys more
    firmly than the teacher, at no cost when it runs.
    """
    window = streams.window
    nothing = torch.tensor(streams.batches.tokenizer(""), device=window.device).expand_as(
        streams.tokens
    )
    without = [
        (guidance - 1, nothing, streams.labels),
        (control_guidance - 1, streams.tokens, torch.full_like(streams.labels, NULL_ID)),
    ]
    ways = list(zip(streams.row, streams.edges, strict=True))
    path = [[round(t + (edge - t) * k / steps) for t, edge in ways] for k in range(steps + 1)]
    for now, then in zip(path, path[1:], strict=False):
        timesteps = torch.tensor([now], device=window.device).expand(len(window), -1)
        velocity = teacher(window, timesteps, streams.tokens, streams.labels)
        guided = velocity
        for further, tokens, labels in without:
            if further:
                guided = guided + further * (velocity - teacher(window, timesteps, tokens, labels))
        moved = ddim_row_step(window[:, 1:], guided[:, 1:], now[1:], then[1:])
        window = torch.cat([window[:, :1], moved], 1)
    return window[:, 1:]


def one_call(
    student: WorldModel, window: Tensor, tokens: Tensor, labels: Tensor
) -> tuple[Tensor, Tensor]:
    """Where one call of the student lands (as `consistency_step` computes it), and c_out per group
    for the loss.

    window [B, G + 1, C, h, w] at the levels of `timestep_row`, token ids [B, N_t], label ids [B, G
    + 1] -> the groups' latents at their phase edges [B, G, C, h, w].
    """
    groups = window.shape[1] - 1
    row, edges = timestep_row(groups), phase_edges(groups)
    timesteps = torch.tensor([row], device=window.device).expand(len(window), -1)
    velocity = student(window, timesteps, tokens, labels)[:, 1:]
    parts = [
        consistency_coefficients(t, edge, groups)[:2]
        for t, edge in zip(row[1:], edges[1:], strict=True)
    ]
    skip, out = (_column(list(column)).to(window) for column in zip(*parts, strict=True))
    signal, spread = (column.to(window) for column in signal_and_spread(row[1:]))
    clean = signal * window[:, 1:] - spread * velocity
    return out * clean + skip * window[:, 1:], out * spread


def build(
    settings: TrainSettings, batches: Batches, group: SequenceGroup = SINGLE
) -> tuple[Streams, Run]:
    """The student (a copy of the stage-3 model, or that of the weights to go on from) and its run,
    resumed if there is something to resume."""
    student = diffusion.trained(settings)
    if settings.distill_start:
        trained = started(settings, f"transformer/{WEIGHTS}", "stage4")
        diffusion.load_grown(student.transformer, trained)
    student.requires_grad_(False)
    student.transformer.requires_grad_(True)
    count = max(1, settings.distill_streams // group.size)
    judge = Judge.of_latents(settings.latent_channels) if settings.distill_judge else None
    streams = Streams(student, batches, count, settings.seed, settings.noise_groups, judge).to(
        pick_device(settings.device)
    )
    parameters = dict(student.transformer.named_parameters())
    judges = {f"judge.{name}": p for name, p in judge.named_parameters()} if judge else {}
    optimiser = Optimiser(
        parameters | judges,
        lambda name, p: name.startswith("judge.layers.") and p.ndim == 4,
        muon_rate=JUDGE_MUON_RATE,
        adam_rate=settings.distill_adam_rate,
        weight_decay=0.0,
        group=group,
    )
    return streams, Run(
        Path(settings.work) / "distill", streams, optimiser, Average(parameters, 0.99)
    )


def train(
    settings: TrainSettings, group: SequenceGroup = SINGLE, minutes: float | None = None
) -> bool:
    """Trains until the settings' steps are done (True) or the minutes are over (False).

    Every rank dreams its own streams; those of rank 0 are saved.
    """
    device = pick_device(settings.device)
    vae = autoencoder.trained(settings).to(device)
    batches = Batches(
        diffusion.encode(vae, settings, device),
        text.tokenizer(settings),
        settings,
    )
    teacher = diffusion.trained(settings)
    streams, run = build(settings, batches, group)
    return run.train(
        settings.distill_steps,
        lambda _, sample: step_loss(settings, streams, teacher, sample),
        minutes=minutes,
        title="distill",
        log_every=10,
    )


def step_loss(
    settings: TrainSettings, streams: Streams, teacher: WorldModel, sample: int
) -> tuple[Tensor, dict[str, float]]:
    """How far one call of the student lands from the teacher's walk, and what a judge says of it;
    the streams move on."""
    streams.prepare(sample, settings.late_labels)
    wanted = teacher_end(
        teacher,
        streams,
        settings.distill_teacher_steps,
        settings.distill_guidance,
        settings.distill_control_guidance,
    )
    reached, scale = one_call(streams.student, streams.window, streams.tokens, streams.labels)
    error = ((reached - wanted) / scale).square()
    loss = torch.sqrt(error.mean((2, 3, 4)) + 1e-4).mean()
    groups = {f"group{g}": float(e) for g, e in enumerate(error.detach().mean((0, 2, 3, 4)))}
    figures = {**groups, "deviation": float(streams.window[:, 0].std())}
    if streams.judge is not None:
        wished, judged = streams.contest(streams.judge, sample, reached)
        last = streams.student.transformer.proj_out.weight
        loss = loss + settings.distill_judge * balance(loss, wished, last) * wished + judged
        figures |= {"judge": float(judged.detach()), "wish": float(wished.detach())}
    streams.advance(sample, reached.detach(), wanted)
    return loss, figures


def trained(settings: TrainSettings) -> Transformer:
    """The student's transformer with its averaged weights; without a run of its own, that of the
    weights to go on from.

    Raises UserError when there is neither.
    """
    if not exists(settings):
        raise UserError(
            "stage 4: there is no student yet; run the stage distill first, or export with --early"
        )
    transformer = Transformer(diffusion.transformer_config(settings))
    if _has_run(settings):
        transformer.load_state_dict(
            part(read_state(Path(settings.work) / "distill")[1], "average.")
        )
    else:
        transformer.load_state_dict(started(settings, f"transformer/{WEIGHTS}", "stage4"))
    return transformer.eval()


def exists(settings: TrainSettings) -> bool:
    """Whether there is a student, of this training or of the weights it goes on from."""
    return bool(settings.start) or _has_run(settings)


def _has_run(settings: TrainSettings) -> bool:
    return (Path(settings.work) / "distill" / "run.json").exists()
