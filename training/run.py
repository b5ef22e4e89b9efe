"""A training run that survives interruption: a folder with its weights, optimiser, average and log.

Everything random in step i follows from (seed, i), so a resumed run equals an undisturbed one.
Several ranks, a thread each, may share the work of a step: on a busy machine they lose far less to
waiting than one process with many threads."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from tqdm import tqdm

from configs.errors import UserError
from training.optimise import Average, Optimiser
from training.settings import TrainSettings

PIECE_BYTES = 16 * 2**20
SAVE_SECONDS = 90
# (step, sample) -> the loss of a step and figures to log.
LossOf = Callable[[int, int], tuple[Tensor, dict[str, float]]]


def generator(*key: int) -> torch.Generator:
    """A CPU generator that is a function of the key."""
    mixed = 0x9E3779B97F4A7C15
    for part in key:
        mixed = ((mixed ^ part) * 0xBF58476D1CE4E5B9 + 0x94D049BB133111EB) % 2**63
    return torch.Generator().manual_seed(mixed)


def schedule(step: int, steps: int, warm_up: int = 50, decay_share: float = 0.5) -> float:
    """Scale of the rates: a short rise, a plateau, then a straight line down to 2 % over the last
    share of steps."""
    left = (steps - step) / (steps * decay_share)
    return min(1.0, (step + 1) / warm_up) * (0.02 + 0.98 * min(1.0, left))


def write_pieces(folder: Path, tensors: Mapping[str, Tensor]) -> list[str]:
    """Writes tensors as safetensors files of at most PIECE_BYTES each (a bigger tensor alone in its
    own)."""
    pieces: list[dict[str, Tensor]] = [{}]
    size = 0
    for name, tensor in tensors.items():
        length = tensor.numel() * tensor.element_size()
        if pieces[-1] and size + length > PIECE_BYTES - 65536:
            pieces.append({})
            size = 0
        # tied tensors become independent
        pieces[-1][name] = tensor.detach().cpu().contiguous().clone()
        size += length
    names = [f"piece-{k:02d}.safetensors" for k in range(len(pieces))]
    for name, piece in zip(names, pieces, strict=True):
        save_file(piece, folder / name)
    return names


def read_state(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """What a run last saved: its `run.json` and all tensors. Raises UserError."""
    tensors: dict[str, Tensor] = {}
    try:
        about = json.loads((folder / "run.json").read_text())
        for name in about["pieces"]:
            tensors |= load_file(folder / about["state"] / name)
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise _unfit(folder, "what was saved there is damaged", error) from error
    return about, tensors


def _unfit(folder: Path, what: str, error: Exception) -> UserError:
    """A run that cannot go on."""
    why = " ".join(str(error).split())[:200]
    return UserError(f"{folder}: {what} ({why}); delete that folder to train this stage anew")


def part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names begin with a prefix, without it."""
    return {
        name.removeprefix(prefix): tensor
        for name, tensor in tensors.items()
        if name.startswith(prefix)
    }


WEIGHTS = "diffusion_pytorch_model.safetensors"


def started(settings: TrainSettings, file: str, stage: str = "stage3") -> dict[str, Tensor]:
    """Float32 tensors of a file of a stage in the exported weights that training is to go on
    from."""
    path = Path(settings.start) / stage / file
    if not path.is_file():
        raise UserError(
            "start: expected a folder of exported weights like models/tiny, "
            f"but {path} is not there"
        )
    try:
        return {name: tensor.float() for name, tensor in load_file(path).items()}
    except SafetensorError as error:
        raise UserError(f"start: {path} is damaged ({error}); fetch it again") from None


class Run:
    """The folder of one training: `state-N/` (newest complete one is named in `run.json`) and
    `log.jsonl`."""

    def __init__(
        self, folder: Path, module: nn.Module, optimiser: Optimiser, average: Average
    ) -> None:
        self.folder, self.module, self.optimiser, self.average = folder, module, optimiser, average
        self.group = optimiser.group
        folder.mkdir(parents=True, exist_ok=True)
        self.step = 0
        self.seconds = 0.0
        self._saved = -1  # the step of what `run.json` names
        if (folder / "run.json").exists():
            self._load()

    def _load(self) -> None:
        about, tensors = read_state(self.folder)
        try:
            self.module.load_state_dict(part(tensors, "module."))
            self.average.load(part(tensors, "average."))
            self.optimiser.load(part(tensors, "optimiser."))
            self.step, self.seconds = about["step"], about["seconds"]
        except (RuntimeError, KeyError, ValueError) as error:
            what = "what was saved there is of other sizes than the config says"
            raise _unfit(self.folder, what, error) from error
        self._saved = self.step

    @property
    def sample(self) -> int:
        """The number of this rank's next sample; samples are counted over all ranks."""
        return self.step * self.group.size + self.group.rank

    def save(self) -> None:
        """Rank 0 writes for all. What was saved before is not touched until this is whole."""
        if self.group.rank or self._saved == self.step:
            return
        state = self.folder / f"state-{self.step}"
        state.mkdir(exist_ok=True)
        tensors = {f"module.{k}": v for k, v in self.module.state_dict().items()}
        tensors |= {f"average.{k}": v for k, v in self.average.values.items()}
        tensors |= {f"optimiser.{k}": v for k, v in self.optimiser.tensors().items()}
        about = {
            "step": self.step,
            "seconds": self.seconds,
            "state": state.name,
            "pieces": write_pieces(state, tensors),
        }
        partial = self.folder / "run.json.partial"
        partial.write_text(json.dumps(about))
        os.replace(partial, self.folder / "run.json")
        self._saved = self.step
        for old in self.folder.glob("state-*"):
            if old != state:
                for file in old.iterdir():
                    file.unlink()
                old.rmdir()

    def train(
        self,
        steps: int,
        loss_of: LossOf,
        *,
        minutes: float | None = None,
        log_every: int = 20,
        title: str = "train",
        check: Callable[[], dict[str, float]] | None = None,
        check_every: int = 400,
    ) -> bool:
        """Steps until `steps` are done or the minutes are over; saves on the way and at the end.
        True when done.

        loss_of(step, sample) gives a step's loss and figures to log, its draws following from the
        sample; check() is called now and then with the averaged weights.
        """
        begin = saved = time.monotonic()
        before = self.seconds
        self.module.train()
        sums: dict[str, list[float]] = {}
        with self._bar(steps, title) as bar:
            while self.step < steps and not self._over(begin, minutes):
                for k, v in self._step(steps, loss_of).items():
                    sums.setdefault(k, []).append(v)
                bar.update()
                self.seconds = before + time.monotonic() - begin
                if self.step % log_every == 0:
                    self._log({k: round(sum(v) / len(v), 5) for k, v in sums.items()}, bar)
                    sums = {}
                if check is not None and self.step % check_every == 0:
                    with self.average.worn():
                        self._log({f"held_out_{k}": round(v, 5) for k, v in check().items()}, bar)
                if time.monotonic() - saved > SAVE_SECONDS:
                    self.save()
                    saved = time.monotonic()
        self.save()
        return self.step >= steps

    def _bar(self, steps: int, title: str) -> tqdm[Any]:
        """Rank 0 shows the progress of all."""
        return tqdm(
            total=steps,
            initial=self.step,
            desc=title,
            unit="step",
            mininterval=5,
            disable=self.group.rank > 0,
        )

    def _step(self, steps: int, loss_of: LossOf) -> dict[str, float]:
        """One step of the optimiser and of the average; the step's figures."""
        loss, figures = loss_of(self.step, self.sample)
        loss.backward()
        gradient = self.optimiser.step(schedule(self.step, steps))
        self.step += 1
        self.average.update(self.step)
        return {"loss": float(loss.detach()), **figures, "gradient": gradient}

    def _over(self, begin: float, minutes: float | None) -> bool:
        """Whether the time of any rank is over: all stop together."""
        if minutes is None:
            return False
        late = torch.tensor([float(time.monotonic() - begin > minutes * 60)])
        return bool(self.group.all_reduce_sum(late))

    def _log(self, means: dict[str, float], bar: tqdm[Any]) -> None:
        if self.group.rank:
            return
        bar.set_postfix(means, refresh=False)
        with (self.folder / "log.jsonl").open("a") as log:
            log.write(
                json.dumps({"step": self.step, "seconds": round(self.seconds, 1), **means}) + "\n"
            )
