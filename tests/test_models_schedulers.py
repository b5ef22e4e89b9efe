"""Tables, timestep lists and steps of docs/reference.md section 3."""

import math

import pytest
import torch

from configs.errors import UserError
from models.schedulers import (
    add_noise,
    alpha,
    alpha_table,
    check_phases,
    consistency_coefficients,
    consistency_renoises,
    consistency_step,
    consistency_timesteps,
    ddim_row_step,
    ddim_step,
    dpm_coefficients,
    dpm_is_second_order,
    dpm_step,
    dynamic_guidance,
    grouped_timesteps,
    phase_edge,
    predict_clean,
    trailing_timesteps,
)

LEVELS = {
    0: 0.99745433, 49: 0.86512567, 99: 0.73086687, 199: 0.49037311, 249: 0.39088974, 374: 0.20582602,
    499: 0.09596956, 599: 0.04616137, 749: 0.01096589, 874: 0.00168251, 949: 0.00019462, 999: 0.0,
}  # fmt: skip
EIGHT = [999, 874, 749, 624, 499, 374, 249, 124]


def test_noise_levels() -> None:
    assert {t: round(alpha(t), 8) for t in LEVELS} == LEVELS
    assert alpha(-1) == alpha(-20) == 1.0
    assert alpha_table().dtype is torch.float64 and bool((alpha_table().diff() < 0).all())


def test_timestep_lists() -> None:
    assert trailing_timesteps(50)[:3] == [999, 979, 959] and trailing_timesteps(50)[-2:] == [39, 19]
    assert trailing_timesteps(20)[:2] == [999, 949] and trailing_timesteps(20)[-2:] == [99, 49]
    assert trailing_timesteps(4) == consistency_timesteps(4, 40) == [999, 749, 499, 249]
    assert consistency_timesteps(8, 40) == EIGHT
    assert consistency_timesteps(4, 50) == [999, 759, 499, 259]
    assert consistency_timesteps(2, 40) == [999, 499]


def _matrix(text: str, window: int) -> list[list[int]]:
    rows = [row.split() for row in text.strip("[]").split("] [")]
    return [[0] + [int(t) for t in row[1:] for _ in range(window)] for row in rows]


TWENTY = "[0 249 499 749 999] [0 199 449 699 949] [0 149 399 649 899] [0 99 349 599 849] [0 49 299 549 799]"


@pytest.mark.parametrize(
    ("timesteps", "groups", "window", "expected"),
    [
        (trailing_timesteps(20), 4, 1, TWENTY),
        (trailing_timesteps(20), 4, 4, TWENTY),
        (consistency_timesteps(4, 40), 4, 1, "[0 249 499 749 999]"),
        (consistency_timesteps(4, 40), 4, 2, "[0 249 499 749 999]"),
        (EIGHT, 4, 1, "[0 249 499 749 999] [0 124 374 624 874]"),
        (consistency_timesteps(2, 40), 2, 1, "[0 499 999]"),
    ],
)
def test_matrices(timesteps: list[int], groups: int, window: int, expected: str) -> None:
    assert grouped_timesteps(timesteps, groups, window) == _matrix(expected, window)


@pytest.mark.parametrize("steps", [0, -1, 1001])
def test_impossible_step_counts(steps: int) -> None:
    with pytest.raises(UserError, match="number of steps"):
        trailing_timesteps(steps)
    with pytest.raises(UserError, match="number of steps"):
        consistency_timesteps(steps, 40)


def test_steps_must_be_a_multiple_of_the_groups() -> None:
    with pytest.raises(UserError, match="50 inference steps cannot serve 4 noise groups"):
        grouped_timesteps(trailing_timesteps(50), 4, 1)


def test_dynamic_guidance() -> None:
    values = [round(dynamic_guidance(6, t, 50), 3) for t in trailing_timesteps(50)]
    assert values[:8] == [2.291, 2.544, 6.974, 6.420, 2.788, 4.272, 1.038, 4.170]
    assert values[-3:] == [1.0, 1.0, 1.123]


def test_clean_prediction_undoes_noising() -> None:
    torch.manual_seed(0)
    clean, noise = torch.randn(2, 3, 4, 5, 5, dtype=torch.float64)
    timesteps = [0, 499, 999]
    levels = alpha_table()[timesteps].view(-1, 1, 1, 1)
    velocity = levels.sqrt() * noise - (1 - levels).sqrt() * clean
    noised = add_noise(clean, noise, timesteps)
    torch.testing.assert_close(predict_clean(noised, velocity, timesteps), clean)
    # A perfect model steps along the same noise, whatever the solver.
    row = ddim_row_step(noised, velocity, timesteps, [-1, 249, 749])
    levels = torch.tensor([1.0, alpha(249), alpha(749)], dtype=torch.float64).view(-1, 1, 1, 1)
    torch.testing.assert_close(row, levels.sqrt() * clean + (1 - levels).sqrt() * noise)
    for t in (999, 479, 19):
        start = math.sqrt(alpha(t)) * clean + math.sqrt(1 - alpha(t)) * noise
        v = math.sqrt(alpha(t)) * noise - math.sqrt(1 - alpha(t)) * clean
        end = math.sqrt(alpha(t - 20)) * clean + math.sqrt(1 - alpha(t - 20)) * noise
        torch.testing.assert_close(ddim_step(start, v, t, 50), end)


def test_noising_casts_levels_before_their_roots() -> None:
    clean, noise = torch.ones(1, 1, 1, 1).half(), torch.zeros(1, 1, 1, 1).half()
    assert add_noise(clean, noise, [949]).item() == torch.tensor(alpha(949)).half().sqrt().item()


@pytest.mark.parametrize(
    ("t", "following", "phases", "edge", "skip", "out"),
    [
        (999, 749, 4, 749, 0.994502, 0.104718),
        (749, 499, 4, 499, 0.956062, 0.209673),
        (499, 249, 4, 249, 0.820836, 0.370925),
        (249, None, 4, 0, 0.064648, 0.958308),
        (874, 749, 4, 749, 0.995340, 0.063891),
        (624, 499, 4, 499, 0.969189, 0.121917),
        (374, 249, 4, 249, 0.875770, 0.227892),
        (124, None, 4, 0, 0.087345, 0.927428),
    ],
)
def test_consistency_coefficients(
    t: int, following: int | None, phases: int, edge: int, skip: float, out: float
) -> None:
    assert phase_edge(t, phases) == edge
    ours = consistency_coefficients(t, following, phases)
    assert ours == pytest.approx((skip, out, 1.0), abs=1e-6)


@pytest.mark.parametrize(
    ("t", "following", "low"), [(999, 874, 749), (749, 624, 499), (499, 374, 249)]
)
def test_renoising_inside_a_phase(t: int, following: int, low: int) -> None:
    assert consistency_coefficients(t, following, 4)[2] == pytest.approx(
        alpha(following) / alpha(low)
    )
    assert consistency_renoises([249, t], EIGHT, 4) and not consistency_renoises(
        [124, 374, 624, 874], EIGHT, 4
    )


def test_noise_makes_no_difference_where_steps_end_on_their_edges() -> None:
    timesteps = consistency_timesteps(4, 40)
    assert not consistency_renoises(timesteps, timesteps, 4)
    latents, velocity, noise = torch.randn(3, 4, 2, 3, 3)
    row = sorted(timesteps)
    without, edge = consistency_step(latents, velocity, row, timesteps, 4)
    assert torch.equal(without, edge)
    assert torch.equal(consistency_step(latents, velocity, row, timesteps, 4, noise)[0], without)


def test_wrong_phases_are_refused() -> None:
    for steps, original, groups in ((4, 40, 4), (8, 40, 4), (2, 40, 2), (4, 40, 2)):
        check_phases(consistency_timesteps(steps, original), groups)
    with pytest.raises(UserError, match="do not fit 4 phases"):
        check_phases(consistency_timesteps(4, 50), 4)


SCHEDULES = [
    (groups, steps) for groups in (1, 2, 4, 5, 8, 10, 20) for steps in range(groups, 41, groups)
]


@pytest.mark.parametrize(("groups", "steps"), SCHEDULES)
def test_phased_consistency_for_every_multiple_of_the_groups(groups: int, steps: int) -> None:
    """A perfect model goes along the same noise to each phase's edge, and re-noises to exactly the
    level wanted."""
    timesteps = consistency_timesteps(steps, 40)
    check_phases(timesteps, groups)
    matrix = grouped_timesteps(timesteps, groups, 1)
    torch.manual_seed(groups * steps)
    clean, noise, fresh = torch.randn(3, groups, 4, 3, 3, dtype=torch.float64)
    for row in (row[1:] for row in matrix):
        signal, spread = (
            torch.tensor([math.sqrt(level(alpha(t))) for t in row], dtype=torch.float64).view(
                -1, 1, 1, 1
            )
            for level in (float, lambda a: 1 - a)
        )
        velocity = signal * noise - spread * clean
        stepped, edge = consistency_step(
            (signal * clean + spread * noise).float(),
            velocity.float(),
            row,
            timesteps,
            groups,
            fresh.float(),
        )
        following = dict(zip(timesteps, [*timesteps[1:], None]))
        for i, t in enumerate(row):
            low = alpha(phase_edge(t, groups))
            expected = math.sqrt(low) * clean[i] + math.sqrt(1 - low) * noise[i]
            torch.testing.assert_close(edge[i].double(), expected, atol=1e-4, rtol=1e-4)
            after = following[t]
            if after is None or after == phase_edge(t, groups):
                assert torch.equal(stepped[i], edge[i])  # lands on the edge: nothing is drawn
            elif phase_edge(t, groups):
                assert after > phase_edge(t, groups)
                kept = alpha(after) / low
                expected = math.sqrt(kept) * edge[i].double() + math.sqrt(1 - kept) * fresh[i]
                torch.testing.assert_close(stepped[i].double(), expected, atol=1e-4, rtol=1e-4)
    # After the last row a group sits at the level at which the first row expects the next lower
    # one.
    last = [following[t] for t in matrix[-1][1:]]
    assert last == [None, *matrix[0][1:-1]]


def test_dpm_steps_stay_finite_at_every_limit() -> None:
    """Whole outer steps, second order included, from pure noise (a = 0) to the clean end (a' =
    1)."""
    torch.manual_seed(0)
    for steps, groups in ((4, 4), (20, 4), (8, 2), (20, 20), (1000, 4)):
        history = None
        for i, row in enumerate(grouped_timesteps(trailing_timesteps(steps), groups, 1)):
            latents, velocity, noise = 100 * torch.randn(3, groups, 1, 2, 2)
            second = dpm_is_second_order(i, row[1:], steps)
            stepped, clean = dpm_step(
                latents, velocity, row[1:], steps, noise, history if second else None
            )
            assert torch.isfinite(stepped).all() and torch.isfinite(clean).all(), (steps, row)
            history = (clean, row[1:])


def test_dpm_coefficients_are_finite_everywhere() -> None:
    for steps in (4, 8, 20, 50, 100, 1000):
        for t in range(1000):
            for previous in (None, min(999, t + 1000 // steps), 999):
                assert all(
                    math.isfinite(value) for value in dpm_coefficients(t, previous, steps)
                ), (t, previous)


def test_dpm_limits() -> None:
    assert dpm_coefficients(999, None, 20) == pytest.approx(
        (0, -math.sqrt(alpha(949)), math.sqrt(1 - alpha(949)), 0)
    )
    assert dpm_coefficients(49, None, 20) == (0.0, -1.0, 0.0, 0.0)
    assert dpm_coefficients(949, 999, 20)[3] == 0.0
    assert dpm_coefficients(499, 549, 20)[3] > 0


def test_dpm_last_step_returns_the_clean_prediction() -> None:
    latents, velocity, noise = torch.randn(3, 1, 2, 3, 3)
    stepped, clean = dpm_step(latents, velocity, [49], 20, noise)
    torch.testing.assert_close(stepped, clean.float())


def test_dpm_orders() -> None:
    matrix = grouped_timesteps(trailing_timesteps(20), 4, 1)
    assert [dpm_is_second_order(i, row[1:], 20) for i, row in enumerate(matrix)] == [
        False,
        True,
        True,
        True,
        False,
    ]
