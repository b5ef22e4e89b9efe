"""Scenes and their numbers."""

import numpy as np

from training.scene import SIZES, Scene


def test_ids_and_words_say_the_same() -> None:
    rng, seen = np.random.default_rng(0), set()
    for _ in range(1500):
        scene = Scene.random(rng)
        seen.add(scene.ids)
        assert Scene.of_ids(scene.ids) == scene
        assert all(0 <= place < size for place, size in zip(scene.ids, SIZES, strict=True))
    assert len(seen) == np.prod(SIZES)
