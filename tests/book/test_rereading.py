"""What the paper's own tables say when they are computed anew."""

import pytest

from sitebook.old import rereading
from sitebook.old.ledger.claims import claim
from sitebook.old.rereading import assumptions, models, scores, site
from sitebook.old.rereading.printed import derived


def named(finding):
    return {row["name"]: row for row in finding()}


def test_a_record_stands_once_and_is_of_the_papers_own_numbers():
    rows = rereading.found()
    names = [(row["name"], row["dataset"]) for row in rows]
    assert len(set(names)) == len(names)
    assert {row["data"] for row in rows} == {"paper"}
    assert {row["verdict"] for row in rows} == {None, "follows", "does not follow"}


def test_an_interval_is_what_rounding_leaves_open():
    cells = ["facility:A/ours/1:peak_kw", "facility:A/ours/1:mean_kw"]
    row = derived("sum", lambda a, b: a + b, cells, "kW")
    assert row["value"] == pytest.approx(768.87 + 589.75)
    assert row["interval"] == pytest.approx([1358.61, 1358.63])


def test_a_number_that_answers_a_claim_has_the_claims_rounding_too():
    cell = "facility:A/ours/1:mean_kw"
    row = derived("mean", lambda kw: kw, [cell], answers=cell)
    assert row["interval"] == pytest.approx([589.74, 589.76])
    assert row["unit"] == claim(cell)["unit"]
    assert row["verdict"] == "follows"


def test_ten_states_are_never_the_minimum_of_bic():
    rows = named(models.states_by_bic)
    assert rows["BIC least at K = 10"]["value"] == 0
    assert rows["BIC least at K = 20"]["value"] == 10
    assert sum(row["value"] for row in rows.values()) == 25


def test_mixtures_lie_above_the_training_means_only_in_the_main_configurations():
    rows = named(models.mixture_means)
    assert rows["mixture mean above training mean, least"]["value"] == pytest.approx(2.5, abs=0.05)
    greatest = rows["mixture mean above training mean, greatest"]["value"]
    assert greatest == pytest.approx(5.8, abs=0.05)
    assert abs(rows["the same, older fits, greatest"]["value"]) < 0.1


def test_ar1_lowers_every_acf_score_and_raises_all_energy_errors_but_one():
    rows = named(scores.ar1_effect)
    assert rows["ACF R² lower with AR(1)"]["value"] == 25
    assert rows["energy error greater with AR(1)"]["value"] == 24
    assert rows["change of the energy error, llama-3-405b_H100_tp8"]["value"] < 0


def test_the_counts_behind_the_abstract_follow():
    rows = named(scores.below_limit)
    assert rows["energy error below the limit"]["value"] == 22
    assert rows["energy error below the limit"]["verdict"] == "follows"


def test_the_files_of_march_agree_for_one_model_alone():
    rows = named(scores.march_files)
    assert rows["of these agreeing within rounding"]["value"] == 4
    energy = rows["energy signed, llama-70b, second file less first"]
    assert energy["value"] == pytest.approx(2.92 - 16.8)


def test_two_nameplates_without_overhead_fit_the_node_baselines():
    rows = named(scores.node_nameplate)
    assert abs(rows["above eight chips, training mean of the normalisation"]["value"]) < 0.05
    assert abs(rows["above the older study's, training mean of the mixture"]["value"]) < 0.05


def test_every_feature_set_of_the_study_does_worse_than_label_frequencies():
    rows = named(models.feature_study)
    assert rows["explained share below zero"]["value"] == 5
    assert rows["ratio above one and worse than F6"]["value"] == 4


def test_six_features_were_estimated_to_inform_less_than_two_of_them():
    less = [row for name, row in named(models.information_criterion).items() if "six" in name]
    assert [row["interval"][1] < 0 for row in less] == [True, True]


def test_removing_the_worst_run_always_lowers_the_energy_error():
    rows = named(scores.pruning)
    assert rows["energy error less without the worst run"]["value"] == 12
    assert rows["ACF R² lower without the worst run"]["value"] == 7


def test_the_surrogate_overestimates_most_counts_and_one_eightfold():
    rows = named(models.surrogate_counts)
    assert rows["overestimated beyond rounding"]["value"] == 15
    worst = rows["active requests, surrogate over measured, llama-3-70b_H100_tp4"]
    assert worst["value"] == pytest.approx(26.56 / 3.43, rel=1e-4)


def test_a_constant_prefill_rate_is_right_for_short_prompts_and_wrong_for_long_ones():
    rows = named(models.surrogate_prefill)
    assert rows["prefill of 100 tokens, constant rate over log-normal, median"]["value"] < 2
    assert rows["prefill of 1020 tokens, constant rate over log-normal, least"]["value"] > 5


def test_the_archive_draws_all_configurations_independently():
    rows = named(scores.generation_modes)
    assert rows["archive: independent draws"]["value"] == 25
    assert rows["of these mixture-of-experts"]["value"] == 4


def test_of_the_sites_ratios_all_but_one_last_digit_follow():
    rows = site.power_ratios() + site.sizing_values() + site.interconnection_values()
    rows += site.hierarchy_levels() + site.cov_refit() + site.cov_theory()
    odd = [row["name"] for row in rows if row["verdict"] == "does not follow"]
    assert odd == ["load factor, B/splitwise/900"]


def test_the_peak_across_seeds_is_one_runs_percentile_across_bins():
    assert named(site.interconnection_values)["peak p95"]["verdict"] == "follows"


def test_the_curve_of_variation_flattens():
    slopes = [row["value"] for name, row in named(site.cov_theory).items() if "from" in name]
    assert slopes == sorted(slopes)
    assert slopes[0] < -0.3
    assert slopes[-1] > -0.05


def test_the_sites_nameplate_has_four_gpus_though_its_servers_have_eight():
    rows = named(assumptions.nameplates)
    assert rows["site nameplate, run B"]["verdict"] == "follows"
    assert rows["site nameplate, eight A100 a server"]["value"] == pytest.approx(1310.4)
    assert rows["nameplate of a rack in the facility"]["value"] == pytest.approx(15.2)


def test_run_b_has_the_mean_of_its_mixture_and_run_a_that_of_no_configuration():
    rows = named(assumptions.server_means)
    assert rows["mean GPU power of a server, run A"]["value"] == pytest.approx(696, abs=1)
    assert rows["mean GPU power of a server, run B"]["value"] == pytest.approx(1740, abs=1)
    b = "run B above the nearest mixture mean, llama-3-70b_A100_tp8"
    assert abs(rows[b]["value"]) < 0.05
    nearest = [row["value"] for name, row in rows.items() if name.startswith("run A above")]
    assert min(map(abs, nearest)) > 5


def test_the_greatest_server_of_run_b_stands_at_the_generators_clip():
    rows = named(assumptions.server_peaks)
    low, high = rows["greatest GPU power of a server, run B"]["interval"]
    assert high - low < 10
    assert abs(rows["run B above the nearest clip, llama-3-70b_A100_tp8"]["value"]) < high - low


def test_on_equal_terms_the_mean_carries_more_racks_or_the_others_fewer():
    rows = named(assumptions.oversubscription)
    assert rows["racks, mean"]["verdict"] == "follows"
    assert rows["power of a rack, mean with PUE"]["value"] == pytest.approx(14.245, abs=1e-3)
    assert rows["racks with PUE, ours"]["value"] == 44
    assert rows["racks without PUE, mean"]["value"] == 54
    assert rows["racks by the facility's own nameplate"]["value"] == 39


def test_the_revised_look_up_table_went_from_above_to_below_the_papers_model():
    rows = named(assumptions.splitwise_revised)
    assert rows["mean above that of the paper's model, splitwise_b"]["value"] > 0
    assert rows["mean above that of the paper's model, splitwise_b_prime"]["value"] < 0
