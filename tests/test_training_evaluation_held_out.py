"""What a held-out scene is asked for with names all of it."""

import numpy as np

from training.captions import caption, scene_of
from training.evaluation.held_out import held_out_scenes, whole_caption
from training.scene import Scene


def test_a_held_out_scene_is_named_whole() -> None:
    blank, left_open = Scene("", "", ""), 0
    for scene, seed in held_out_scenes(40, seed=23):
        assert scene_of(whole_caption(scene, seed), blank) == scene
        left_open += scene_of(caption(scene, np.random.default_rng(seed)), blank) != scene
    assert left_open  # which captions of the training do


def test_scenes_go_round_every_biome_at_every_time() -> None:
    pairs = [(scene.biome, scene.time) for scene, _ in held_out_scenes(30)]
    assert len(set(pairs[:15])) == len(set(pairs[15:])) == 15
