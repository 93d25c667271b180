"""The statistics against scipy and statsmodels, and against data whose truth is known."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from recbole_attn.compare.report.content import _difference
from recbole_attn.compare.statistics import by_user, compare_paired, holm, marks, resampled_means


def series(values):
    return pd.Series(np.asarray(values, dtype=float), index=[f"u{number}" for number in range(len(values))])


def draw_pair(generator, users=200, shift=0.0):
    """Two rows of correlated values, as metrics of the same users are."""
    common = generator.normal(size=users)
    return (
        series(common + generator.normal(size=users) * 0.5 + shift),
        series(common + generator.normal(size=users) * 0.5),
    )


def test_p_values_are_those_of_scipys_paired_t_test():
    row, baseline = draw_pair(np.random.default_rng(0), shift=0.05)
    found = compare_paired(row, baseline)
    assert found.p == pytest.approx(stats.ttest_rel(row, baseline).pvalue, rel=1e-9)
    assert found.effect == pytest.approx((row - baseline).mean() / (row - baseline).std())
    assert found.users == 200


def test_the_interval_is_that_of_scipys_bootstrap():
    row, baseline = draw_pair(np.random.default_rng(1), shift=0.1)
    found = compare_paired(row, baseline)
    expected = stats.bootstrap(((row - baseline).to_numpy(),), np.mean, method="percentile", n_resamples=5000, rng=2)
    assert found.low == pytest.approx(expected.confidence_interval.low, abs=0.01)
    assert found.high == pytest.approx(expected.confidence_interval.high, abs=0.01)


def test_a_better_row_has_a_positive_difference_and_a_small_p():
    row, baseline = draw_pair(np.random.default_rng(2), shift=0.5)
    better, worse = compare_paired(row, baseline), compare_paired(baseline, row)
    assert better.difference > 0 > worse.difference
    assert better.p == pytest.approx(worse.p)
    assert max(better.p, worse.p, better.p_bootstrap, worse.p_bootstrap) < 0.01
    assert better.low > 0 > worse.high


def test_null_data_give_about_five_per_cent_of_false_positives():
    generator = np.random.default_rng(3)
    found = [compare_paired(*draw_pair(generator, users=80), seed=number) for number in range(300)]
    for share in (np.mean([c.p < 0.05 for c in found]), np.mean([c.p_bootstrap < 0.05 for c in found])):
        assert 0.025 < share < 0.085
    assert 0.91 < np.mean([c.low <= 0 <= c.high for c in found]) < 0.98


def test_shifts_are_found():
    generator = np.random.default_rng(4)
    found = [compare_paired(*draw_pair(generator, users=200, shift=0.3)) for _ in range(50)]
    assert all(comparison.p < 0.05 and comparison.low > 0 for comparison in found)


def test_rows_that_agree_in_every_user_do_not_differ():
    same = compare_paired(series([0.1, 0.2, 0.3]), series([0.1, 0.2, 0.3]))
    assert (same.difference, same.p, same.p_bootstrap, same.effect) == (0, 1, 1, 0)


@pytest.mark.parametrize("users", [0, 1])
def test_fewer_than_two_shared_users_prove_nothing(users):
    found = compare_paired(series([0.5, 0.7][:users]), series([0.1, 0.2]))
    assert (found.p, found.p_bootstrap, found.users) == (1, 1, users)
    assert np.isnan([found.effect, found.low, found.high]).all()
    assert found.difference == pytest.approx(0.4) if users else np.isnan(found.difference)
    _, _, *shown, effect, _ = [cell.text for cell in _difference("row", "ndcg@10", found, 1.0)]
    assert [*shown, effect] == ["+0.4000" if users else "–", "–", "–", "1", "1", "1", "–"]


def test_only_users_of_both_rows_are_compared_whatever_their_order():
    row = pd.Series({"a": 1.0, "b": 2.0, "c": 9.0})
    baseline = pd.Series({"b": 1.0, "d": 5.0, "a": 0.0})
    found = compare_paired(row, baseline)
    assert (found.users, found.difference) == (2, 1.0)


def test_targets_are_averaged_within_a_user_before_seeds_are():
    users = np.array(["a", "a", "a", "b"])
    seeds = [(users, np.array([1.0, 0.0, 0.5, 1.0])), (users, np.array([0.0, 0.0, 0.0, 0.0]))]
    assert by_user(seeds).to_dict() == {"a": 0.25, "b": 0.5}


def test_a_second_seed_does_not_double_the_number_of_observations():
    row, baseline = draw_pair(np.random.default_rng(5), shift=0.05)
    users = row.index.to_numpy()
    twice = compare_paired(*(by_user([(users, values.to_numpy())] * 2) for values in (row, baseline)))
    assert twice.p == pytest.approx(compare_paired(row, baseline).p)


def test_resampled_means_have_the_standard_error_of_the_mean():
    values = np.random.default_rng(6).choice([0.0, 0.5, 1.0], size=500)
    means = resampled_means(values, np.random.default_rng(7))
    assert means.mean() == pytest.approx(values.mean(), abs=0.005)
    assert means.std() == pytest.approx(values.std() / np.sqrt(500), rel=0.1)


def test_holm_is_that_of_statsmodels():
    multitest = pytest.importorskip("statsmodels.stats.multitest")
    for seed in range(5):
        p_values = np.random.default_rng(seed).uniform(size=9) ** 3
        expected = multitest.multipletests(p_values, method="holm")[1]
        found = holm(dict(enumerate(p_values)))
        assert [found[number] for number in range(9)] == pytest.approx(list(expected))


def test_holm_by_hand():
    assert holm({"a": 0.01, "b": 0.04, "c": 0.03}) == pytest.approx({"a": 0.03, "c": 0.06, "b": 0.06})


def test_stars_follow_the_corrected_p():
    assert [marks(p) for p in (0.0005, 0.005, 0.04, 0.05)] == ["***", "**", "*", ""]
