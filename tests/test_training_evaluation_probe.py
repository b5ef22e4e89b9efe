"""The probe names scenes it has not seen."""

from training.evaluation.probe import fitted_probe


def test_probe_names_scenes_it_has_not_seen() -> None:
    _, accuracy = fitted_probe(clips=150)
    assert accuracy > 0.9
