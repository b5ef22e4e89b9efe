"""Every golden case: what is computed, what is expected and how close it must be.

A directory holds stage4/{transformer,vae} (config and safetensors), taecvx_shaped.safetensors and
cases/*. Sizes, layer counts and settings are read from there. One forward, step or decode may
differ by 1e-4 of the largest expected value, a whole stream by 1e-3.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from configs.geometry import FRAMES_PER_LATENT
from configs.schema import StreamSettings
from models.checkpoint import read_autoencoder
from models.controls import label_id, parse_signal, random_signal
from models.schedulers import (
    consistency_step,
    consistency_timesteps,
    dpm_is_second_order,
    dpm_step,
    grouped_timesteps,
    trailing_timesteps,
)
from models.stage2 import base_latents
from models.tae import TinyVAE, TinyVAEConfig
from models.transformer_folder import read_transformer
from models.vae import FullVAE, Pass
from models.world import World, WorldParts

CPU = torch.device("cpu")
SINGLE, STREAM = 1e-4, 1e-3


@dataclass(frozen=True)
class Comparison:
    """One line of the report."""

    case: str
    error: float
    tolerance: float

    @property
    def ok(self) -> bool:
        return self.error <= self.tolerance


def compare(case: str, ours: Tensor, expected: Tensor, relative: float = SINGLE) -> Comparison:
    """Hold ours against expected where that is finite: the published solver gives NaN beyond its
    phases."""
    finite = torch.isfinite(expected)
    tolerance = relative * float(expected[finite].abs().max())
    same = ours.shape == expected.shape and bool(torch.isfinite(ours).all())
    error = float((ours - expected)[finite].abs().max()) if same else float("inf")
    return Comparison(case, error, tolerance)


@dataclass
class StoredNoise:
    """Draws in the published order: the start, then per outer step those of its inner steps and the
    fresh group.

    draws_per_inner_step: how many each inner step takes; a second-order step takes two and uses the
    second."""

    draws: list[Tensor]
    draws_per_inner_step: Sequence[int]
    groups: int
    window: int

    def fresh(self, first: int, count: int) -> Tensor:
        if first == 0:
            return self.draws[0][0]
        outer = (first - self.groups * self.window - 1) // self.window
        return self.draws[(outer + 1) * self._per_outer_step][0]

    def step(self, first: int, draws: Sequence[int], second_order: bool) -> Tensor:
        outer = (first - 1) // self.window
        inner = draws[-1] - 1  # the newest group's draws count from 1
        used = sum(self.draws_per_inner_step[: inner + 1])
        return self.draws[outer * self._per_outer_step + used][0]

    @property
    def _per_outer_step(self) -> int:
        return sum(self.draws_per_inner_step) + 1


def _case(folder: Path, name: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    file = folder / "cases" / f"{name}.safetensors"
    with safe_open(str(file), framework="pt") as handle:
        return load_file(file), handle.metadata() or {}


@torch.inference_mode()
def transformer_forward(folder: Path) -> Iterator[Comparison]:
    transformer = read_transformer(folder / "stage4/transformer", CPU, torch.float32)
    tensors, _ = _case(folder, "transformer_forward")
    for prefix in sorted({name.split(".")[0] for name in tensors}):
        names = ("hidden_states", "timestep", "encoder_hidden_states", "control_emb")
        ours = transformer(*(tensors[f"{prefix}.{name}"] for name in names))
        yield compare(f"transformer_forward {prefix}", ours, tensors[f"{prefix}.output"])


def _same_timesteps(
    case: str, timesteps: list[int], matrix: list[list[int]], tensors: dict[str, Tensor]
) -> Comparison:
    number = case.split()[-1]
    same = timesteps == tensors[f"{number}.timesteps"].tolist()
    same = same and matrix == tensors[f"{number}.timesteps_grouped"].tolist()
    return Comparison(f"{case} timesteps", 0.0 if same else float("inf"), 0.0)


def lcm_swin_step(folder: Path) -> Iterator[Comparison]:
    tensors, _ = _case(folder, "lcm_swin_step")
    for entry in json.loads((folder / "cases/lcm_swin_step.json").read_text()):
        case = f"lcm_swin_step {entry['case']}"
        timesteps = consistency_timesteps(
            entry["num_inference_steps"], entry["original_inference_steps"]
        )
        matrix = grouped_timesteps(timesteps, entry["num_noise_groups"], entry["window_size"])
        yield _same_timesteps(case, timesteps, matrix, tensors)
        for inner, row in enumerate(matrix):
            at = {
                name: tensors[f"{entry['case']}.{inner}.{name}"]
                for name in ("sample", "model_output", "noise")
            }
            stepped, clean = consistency_step(
                at["sample"],
                at["model_output"],
                row[1:],
                timesteps,
                entry["num_lcm_phases"],
                at["noise"],
            )
            for name, ours in (("prev_sample", stepped), ("denoised", clean)):
                yield compare(
                    f"{case}.{inner} {name}", ours, tensors[f"{entry['case']}.{inner}.{name}"]
                )


def swin_dpm_step(folder: Path) -> Iterator[Comparison]:
    tensors, _ = _case(folder, "swin_dpm_step")
    for entry in json.loads((folder / "cases/swin_dpm_step.json").read_text()):
        case, steps = f"swin_dpm_step {entry['case']}", entry["num_inference_steps"]
        timesteps = trailing_timesteps(steps)
        matrix = grouped_timesteps(timesteps, entry["num_noise_groups"], entry["window_size"])
        yield _same_timesteps(case, timesteps, matrix, tensors)
        for inner, row in enumerate(matrix):
            prefix = f"{entry['case']}.{inner}"
            second = dpm_is_second_order(inner, row[1:], steps)
            history = (
                (tensors[f"{prefix}.old_pred_original_sample"], matrix[inner - 1][1:])
                if second
                else None
            )
            noise = tensors[f"{prefix}.noise.{int(second)}"]
            stepped, clean = dpm_step(
                tensors[f"{prefix}.sample"],
                tensors[f"{prefix}.model_output"],
                row[1:],
                steps,
                noise,
                history,
            )
            yield compare(f"{case}.{inner} prev_sample", stepped, tensors[f"{prefix}.prev_sample"])
            expected = tensors[f"{prefix}.pred_original_sample"]
            yield compare(
                f"{case}.{inner} pred_original_sample", clean.to(expected.dtype), expected
            )


def _stream_decode(vae: FullVAE, latents: Tensor) -> list[Tensor]:
    """Decode [1, C, n, h, w] as a stream does, two latents first: a list of [1, 3, frames, H,
    W]."""
    run = Pass(double_single=True)
    parts = [latents[:, :, :2], *(latents[:, :, i : i + 1] for i in range(2, latents.shape[2]))]
    return [vae.decoder(part, run) for part in parts]


def _full_vae(folder: Path) -> FullVAE:
    vae = read_autoencoder(folder / "stage4/vae", CPU, torch.float32)
    assert isinstance(vae, FullVAE)
    return vae


@torch.inference_mode()
def vae(folder: Path) -> Iterator[Comparison]:
    model, (tensors, _) = _full_vae(folder), _case(folder, "vae")
    full = model.decode(tensors["latents"].transpose(1, 2)).transpose(1, 2)
    yield compare("vae full", full, tensors["full"])
    for i, part in enumerate(_stream_decode(model, tensors["latents"])):
        yield compare(f"vae stream.{i}", part, tensors[f"stream.{i}"])
    encoded = model.encode(tensors["video"].transpose(1, 2))
    yield compare("vae encode_mean", encoded.mean.transpose(1, 2), tensors["encode_mean"])
    yield compare("vae encode_logvar", encoded.logvar.transpose(1, 2), tensors["encode_logvar"])


@torch.inference_mode()
def tae(folder: Path) -> Iterator[Comparison]:
    weights, (tensors, _) = load_file(folder / "taecvx_shaped.safetensors"), _case(folder, "tae")
    model = TinyVAE(TinyVAEConfig.from_tensors(weights, scaling_factor=1.0))
    model.load_state_dict({name: value.float() for name, value in weights.items()})
    latents = tensors["latents"]
    yield compare("tae frames", model.decode(latents) / 2 + 0.5, tensors["frames"])
    yield compare("tae frames_odd7", model.decode(latents[:, :7]) / 2 + 0.5, tensors["frames_odd7"])
    decoder = model.stream()
    streamed = [torch.from_numpy(decoder.push(latent[None])) for latent in latents[0]]
    expected = tensors["frames"][0].permute(0, 2, 3, 1) * 255
    # Streamed frames are whole numbers, truncated: up to one step below the expected value.
    error = (expected - torch.cat(streamed)).sub(0.5).abs().max()
    yield Comparison("tae stream, one by one (uint8)", float(error), 0.5 + 255 * SINGLE)
    yield compare("tae encoded", model.encode(tensors["video"] * 2 - 1), tensors["encoded"])


def _draws(tensors: dict[str, Tensor]) -> list[Tensor]:
    return [tensors[name] for name in sorted(tensors) if name.startswith("noise.")]


def _stream(
    folder: Path, name: str, solver: str, draws_per_inner_step: Sequence[int]
) -> Iterator[Comparison]:
    """The whole streaming loop and the decoding of what it emits."""
    tensors, metadata = _case(folder, name)
    groups, window = int(metadata["num_noise_groups"]), int(metadata["window_size"])
    steps = int(metadata["num_inference_steps"])
    original = int(metadata.get("original_inference_steps", 40))
    settings = StreamSettings(groups, window, steps, original, solver=solver)
    start = tensors["init_latents"]
    transformer = read_transformer(folder / "stage4/transformer", CPU, torch.float32)
    parts = WorldParts(transformer, tensors["control_embeddings"], settings)
    noise = StoredNoise(_draws(tensors), draws_per_inner_step, groups, window)
    height, width = start.shape[-2:]
    world = World(parts, guidance=1.0, size=(height, width), noise=noise)
    labels = parse_signal(metadata["control_signal"])
    world.reset(0, tensors["prompt_embeds"], start[0], labels)
    emitted = []
    for outer in range(int(metadata["num_sample_groups"])):
        first = settings.latents + (outer - 1) * window
        emitted.append(world.step(labels[first : first + window]).latents)
    latents = torch.cat(emitted)[None]
    yield compare(f"{name} latents", latents, tensors["latents_out"], STREAM)
    vae_model, expected = _full_vae(folder), tensors["frames"]
    needed = max(2, expected.shape[2] // FRAMES_PER_LATENT)
    unscaled = latents[:, :needed].transpose(1, 2) / vae_model.scaling_factor
    frames = torch.cat(_stream_decode(vae_model, unscaled), dim=2)
    yield compare(f"{name} frames", frames[:, :, : expected.shape[2]], expected, STREAM)


@torch.inference_mode()
def stage4_stream(folder: Path) -> Iterator[Comparison]:
    _, metadata = _case(folder, "stage4_stream")
    inner = int(metadata["num_inference_steps"]) // int(metadata["num_noise_groups"])
    yield from _stream(folder, "stage4_stream", "consistency", [1] * inner)


@torch.inference_mode()
def stage3_stream(folder: Path) -> Iterator[Comparison]:
    _, metadata = _case(folder, "stage3_stream")
    steps, groups = int(metadata["num_inference_steps"]), int(metadata["num_noise_groups"])
    matrix = grouped_timesteps(trailing_timesteps(steps), groups, int(metadata["window_size"]))
    draws = [1 + dpm_is_second_order(i, row[1:], steps) for i, row in enumerate(matrix)]
    yield from _stream(folder, "stage3_stream", "dpm", draws)


def stage2_base(folder: Path) -> Iterator[Comparison]:
    tensors, metadata = _case(folder, "stage2_base")
    transformer = read_transformer(folder / "stage4/transformer", CPU, torch.float32)
    expected = tensors["latents_out"]
    ours = base_latents(
        transformer,
        torch.cat((tensors["control_embeddings"], tensors["null_control_embedding"])),
        torch.cat((tensors["prompt_embeds"], tensors["negative_prompt_embeds"])),
        parse_signal(metadata["control_signal"]),
        frames=int(metadata["num_frames"]),
        steps=int(metadata["num_inference_steps"]),
        guidance=float(metadata["guidance_scale"]),
        size=(expected.shape[-2], expected.shape[-1]),
        noise=tensors["noise.000"][0],
    )
    yield compare("stage2_base latents", ours[None], expected, STREAM)


def control_signals(folder: Path) -> Iterator[Comparison]:
    for entry in json.loads((folder / "cases/control_signals.json").read_text()):
        ours, expected = (
            random_signal(entry["length"], entry["seed"]),
            parse_signal(entry["signal"]),
        )
        wrong = sum(label_id(a) != label_id(b) for a, b in zip(ours, expected, strict=True))
        yield Comparison(
            f"control_signals {entry['length']} of seed {entry['seed']}", float(wrong), 0.0
        )


CASES: dict[str, Callable[[Path], Iterator[Comparison]]] = {
    "transformer_forward": transformer_forward,
    "lcm_swin_step": lcm_swin_step,
    "swin_dpm_step": swin_dpm_step,
    "vae": vae,
    "tae": tae,
    "stage4_stream": stage4_stream,
    "stage3_stream": stage3_stream,
    "stage2_base": stage2_base,
    "control_signals": control_signals,
}


def is_absent(folder: Path, name: str) -> bool:
    """Say whether a directory lacks a case."""
    return not any((folder / "cases").glob(f"{name}.*"))
