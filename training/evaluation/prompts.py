"""Does the world show what a prompt says, from its start clip and after a change of the prompt?"""

from __future__ import annotations

from typing import Any

import numpy as np
from tqdm import tqdm

from training.captions import PRESET_SCENES, PRESETS
from training.evaluation.dream import Dream
from training.evaluation.probe import Probe
from training.scene import Scene
from training.simulator import Frame


def prompts(dream: Dream, probe: Probe, changes: int) -> dict[str, Any]:
    """Each preset after two seconds from its start clip, and after up to ten seconds of another
    preset's prompt."""
    at_start, changed = [], []
    pairs = list(zip(PRESETS, PRESET_SCENES, strict=True))
    for k, (prompt, scene) in enumerate(tqdm(pairs, desc="prompts", unit="prompt")):
        dream.start_with(prompt, k)
        at_start.append(named(probe, dream.drive(["D"] * 8)[-1:], scene))
        if k >= changes:
            continue
        other = (k * 4 + 7) % len(PRESETS)
        dream.world.set_prompt(dream.embed(PRESETS[other]))
        frames = dream.drive((["D"] * 6 + ["DL"] * 4) * 4)
        changed.append(named(probe, frames[-1:], PRESET_SCENES[other]))
    by_kind = np.mean(changed, 0).tolist()
    return {
        "prompt_at_start": float(np.mean(at_start)),
        "prompt_after_change": float(np.mean(changed)),
        "after_change_by_kind": dict(zip(("biome", "time", "colour"), by_kind, strict=True)),
    }


def named(probe: Probe, frames: Frame, scene: Scene) -> list[bool]:
    """Whether the probe finds a scene's biome, time and colour in one frame [1, H, W, 3]."""
    return (probe.name(frames)[0] == np.array(scene.ids)).tolist()
