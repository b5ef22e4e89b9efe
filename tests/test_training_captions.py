"""Prompts say what they were made from."""

import numpy as np

from training.captions import PRESET_SCENES, PRESETS, caption, scene_of
from training.scene import Scene


def test_prompts_say_what_they_were_made_from() -> None:
    rng, kept, right = np.random.default_rng(0), Scene("city", "night", "blue"), 0
    for _ in range(200):
        scene = Scene.random(rng)
        right += scene_of(caption(scene, rng), scene) == scene
    assert right > 190
    assert [scene_of(prompt, kept) for prompt in PRESETS] == list(PRESET_SCENES)
    assert scene_of("zyx 123", kept) == kept
