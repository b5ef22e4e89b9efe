"""The optimiser of every training: Muon on matrices and convolutions, AdamW on the rest; averaged
weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from models.device import has_bfloat16
from models.parallel import SINGLE, SequenceGroup

MUON_MOMENTUM = 0.95


def orthogonalised(matrix: Tensor, iterations: int = 5) -> Tensor:
    """The nearest semi-orthogonal matrix, roughly: the quintic Newton-Schulz iteration of Muon
    (Jordan, 2024).

    In bfloat16 where that is fast: the result is a direction, good to a few percent by design.
    """
    x = (matrix / (matrix.norm() + 1e-7)).to(
        torch.bfloat16 if has_bfloat16(matrix.device) else torch.float32
    )
    wide = x.shape[0] <= x.shape[1]
    x = x if wide else x.T
    for _ in range(iterations):
        gram = x @ x.T
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    return (x if wide else x.T).to(matrix.dtype)


class Optimiser:
    """Muon for the parameters `muon` chooses (folded to matrices [out, rest]), AdamW for the
    others.

    Rates are multiplied by the schedule's scale at each step. Gradients are clipped to norm 1
    together. With a group, every rank has its own samples and the same weights.
    """

    def __init__(
        self,
        parameters: Mapping[str, nn.Parameter],
        muon: Callable[[str, Tensor], bool],
        *,
        muon_rate: float,
        adam_rate: float,
        adam_betas: tuple[float, float] = (0.9, 0.97),
        weight_decay: float = 1e-3,
        group: SequenceGroup | None = None,
    ) -> None:
        self.group = group or SINGLE
        self.matrices = {name: p for name, p in parameters.items() if muon(name, p)}
        self.others = {name: p for name, p in parameters.items() if name not in self.matrices}
        self.momentum = {name: torch.zeros_like(p) for name, p in self.matrices.items()}
        self.muon_rate, self.adam_rate = muon_rate, adam_rate
        self.adam = torch.optim.AdamW(
            list(self.others.values()),
            lr=adam_rate,
            betas=adam_betas,
            weight_decay=weight_decay,
            foreach=True,
        )

    @torch.no_grad()
    def step(self, scale: float) -> float:
        """Applies and clears the gradients, averaged over the group's ranks; returns their norm
        before clipping."""
        everything = [*self.matrices.values(), *self.others.values()]
        self._average([p.grad for p in everything if p.grad is not None])
        norm = float(torch.nn.utils.clip_grad_norm_(everything, 1.0))
        for group in self.adam.param_groups:
            group["lr"] = self.adam_rate * scale
        self.adam.step()
        for p, update in zip(self.matrices.values(), self._updates(), strict=True):
            rows, columns = p.flatten(1).shape
            p.add_(
                update.view_as(p), alpha=-self.muon_rate * scale * max(1.0, rows / columns) ** 0.5
            )
        for p in everything:
            p.grad = None
        return norm

    def _average(self, tensors: list[Tensor]) -> None:
        if self.group.size > 1:
            total = self.group.all_reduce_sum(torch.cat([t.flatten() for t in tensors])).div_(
                self.group.size
            )
            for tensor, part in zip(
                tensors, total.split([t.numel() for t in tensors]), strict=True
            ):
                tensor.copy_(part.view_as(tensor))

    def _updates(self) -> list[Tensor]:
        """Muon's step of every matrix; each rank works out its share of them."""
        updates = []
        for k, (name, p) in enumerate(self.matrices.items()):
            grad = torch.zeros_like(p) if p.grad is None else p.grad
            momentum = self.momentum[name].mul_(MUON_MOMENTUM).add_(grad)
            mine = k % self.group.size == self.group.rank
            matrix = (grad + MUON_MOMENTUM * momentum).flatten(1)
            updates.append(orthogonalised(matrix) if mine else torch.zeros_like(matrix))
        if self.group.size > 1 and updates:
            total = self.group.all_reduce_sum(torch.cat([u.flatten() for u in updates]))
            return list(total.split([u.numel() for u in updates]))
        return updates

    def tensors(self) -> dict[str, Tensor]:
        """Its whole state, by name."""
        state = {f"momentum.{name}": value for name, value in self.momentum.items()}
        for name, p in self.others.items():
            state |= {f"adam.{key}.{name}": value for key, value in self.adam.state[p].items()}
        return state

    def load(self, state: Mapping[str, Tensor]) -> None:
        for name, momentum in self.momentum.items():
            momentum.copy_(state[f"momentum.{name}"])
        for name, p in self.others.items():
            found = {
                key: state.get(f"adam.{key}.{name}") for key in ("step", "exp_avg", "exp_avg_sq")
            }
            self.adam.state[p] = {
                key: value.to(p.device if key != "step" else "cpu")
                for key, value in found.items()
                if value is not None
            }


class Average:
    """Exponential moving average of parameters, the weights that are shipped. Young averages forget
    faster."""

    def __init__(self, parameters: Mapping[str, nn.Parameter], decay: float) -> None:
        self.parameters, self.decay = dict(parameters), decay
        self.values = {name: p.detach().clone() for name, p in parameters.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        weight = 1 - min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(
            list(self.values.values()), [p.detach() for p in self.parameters.values()], weight
        )

    @contextmanager
    def worn(self) -> Iterator[None]:
        """Within the block the parameters hold the averaged values."""
        kept = {name: p.detach().clone() for name, p in self.parameters.items()}
        self._set(self.values)
        try:
            yield
        finally:
            self._set(kept)

    @torch.no_grad()
    def _set(self, values: Mapping[str, Tensor]) -> None:
        for name, p in self.parameters.items():
            p.copy_(values[name])

    def load(self, state: Mapping[str, Tensor]) -> None:
        for name, value in self.values.items():
            value.copy_(state[name])
