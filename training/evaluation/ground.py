"""Reads from frames what lies on the ground: how much of every pixel is road, how much a thing.

A small convolutional reader for each biome and time of day, fitted in seconds on simulator frames
(sharp and softened ones), whose layout is known. It judges a world only where it is right on
simulator frames that it has not seen.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.drivers import road_label
from training.scene import COLOURS, Scene
from training.simulator import Frame, Simulator
from training.view import SMALL, View, averaged, shrunk

FIRST_SEED, DRIVES, PICTURES = 7_000_000, 16, 6  # simulator drives to fit on, pictures of each
APART = 6  # latents from one picture to the next
STEPS, BATCH, RATE = 240, 6, 1e-2
RARE = 3.0  # how much more a pixel with a thing counts than one without
WIDTH, DILATIONS = 16, (1, 2, 4, 8)
Share = npt.NDArray[np.float32]  # of small pixels below the horizon [n, H - horizon, W], 0 to 1


@dataclass(frozen=True)
class GroundReader:
    """A fitted network: colours and place of pixels [n, 5, h, W] -> logits of road and thing."""

    network: nn.Sequential
    centre: Tensor
    spread: Tensor

    @staticmethod
    def fit(frames: Frame, road: Share, things: Share) -> GroundReader:
        """From frames [n, H, W, 3] whose layout is known; the car's pixels do not count."""
        seen = torch.from_numpy(View.of(frames).ground())
        wanted = torch.stack([torch.from_numpy(road), torch.from_numpy(things)], 1)
        sharp, soft = _pixels(frames), _pixels(_softened(frames))
        centre = sharp.mean((0, 2, 3), keepdim=True)
        spread = sharp.std((0, 2, 3), keepdim=True)
        weight = torch.tensor([[1.0], [RARE]])
        with torch.random.fork_rng():
            torch.manual_seed(0)
            network = _network()
            optimiser = torch.optim.AdamW(network.parameters(), lr=RATE)
            for step in range(STEPS):
                optimiser.param_groups[0]["lr"] = RATE * (1 - step / STEPS)
                chosen = torch.randint(len(frames), (BATCH,))
                logits = network(((sharp if step % 2 else soft)[chosen] - centre) / spread)[
                    ..., seen
                ]
                loss = F.binary_cross_entropy_with_logits(
                    logits, wanted[chosen][..., seen], pos_weight=weight
                )
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
        return GroundReader(network.eval().requires_grad_(False), centre=centre, spread=spread)

    def read(self, frames: Frame) -> tuple[Share, Share]:
        """Road and things in frames [n, H, W, 3] of any view, as shares of the small one's pixels;
        nothing where the car is."""
        seen, frames = torch.from_numpy(SMALL.ground()), shrunk(frames)
        shares = [
            self.network((_pixels(part) - self.centre) / self.spread).sigmoid() * seen
            for part in _parts(frames)
        ]
        road, things = torch.cat(shares).unbind(1)
        return road.numpy(), things.numpy()


@cache
def fitted_reader(biome: str, time: str, view: View = SMALL) -> GroundReader:
    """The reader of a biome at a time of day, fitted on drives that follow a road or leave it; it
    reads frames of this view."""
    frames, roads, things = [], [], []
    for k in range(DRIVES):
        drive = Simulator(Scene(biome, time, COLOURS[k % len(COLOURS)]), FIRST_SEED + k, view)
        for j in range(PICTURES):
            for _ in range(APART):
                label = road_label(drive.car, biome) if k % 2 else ("D", "DL", "D", "DR")[j % 4]
                drive.skip(label)
            frames.append(drive.frame(label))
            road, thing = drive.painter.layout(drive.car)
            roads.append(road)
            things.append(thing)
    shares = (averaged(np.stack(kind), view.scale) for kind in (roads, things))
    return GroundReader.fit(shrunk(np.stack(frames)), *shares)


def _network() -> nn.Sequential:
    layers: list[nn.Module] = []
    channels = 5
    for dilation in DILATIONS:
        layers.append(nn.Conv2d(channels, WIDTH, 3, padding=dilation, dilation=dilation))
        layers += [nn.BatchNorm2d(WIDTH), nn.ReLU()]
        channels = WIDTH
    return nn.Sequential(*layers, nn.Conv2d(WIDTH, 2, 1))


def _softened(frames: Frame) -> Frame:
    video = torch.from_numpy(np.ascontiguousarray(frames)).movedim(-1, 1).float()
    soft = F.avg_pool2d(video, 3, 1, 1, count_include_pad=False)
    return soft.movedim(1, -1).round().to(torch.uint8).numpy()


def _parts(frames: Frame, count: int = 64) -> list[Frame]:
    return [frames[k : k + count] for k in range(0, len(frames), count)]


def _pixels(frames: Frame) -> Tensor:
    """[n, 5, H - horizon, W]: colour, nearness and how far aside of the pixels below the horizon."""
    view = View.of(frames)
    below = torch.from_numpy(np.ascontiguousarray(frames[:, view.horizon :]))
    colours = below.movedim(-1, 1).float() / 255
    near = torch.from_numpy(np.exp(-view.depth() / 20)).expand(colours.shape[2:])
    aside = torch.from_numpy(view.right() / view.depth())
    place = torch.stack([near, aside]).expand(len(colours), -1, -1, -1)
    return torch.cat([colours, place], 1)
