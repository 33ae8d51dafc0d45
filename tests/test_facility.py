"""The rest of a server and the PUE: bounds, directions, and energy."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sitetrace.core.files import InputError
from sitetrace.site.facility import (
    ConstantWatts,
    LinearWatts,
    PueFile,
    PueFunction,
    Temperature,
    greatest_pue,
    non_gpu_law,
    pue_series,
    resolve_pue,
)

TIME_S = np.arange(0, 2 * 86400, 1800.0)
few = settings(max_examples=40, deadline=None)


def between(low, high):
    return st.floats(low, high, allow_subnormal=False)


@st.composite
def functions(draw):
    full = draw(between(1, 3))
    weather = st.builds(
        Temperature, mean_c=between(-20, 40), swing_c=between(0, 20), hottest_hour=between(0, 24),
        above_c=between(-10, 30), per_c=between(0, 0.1),
    )  # fmt: skip
    temperature = draw(st.none() | weather)
    return PueFunction(full=full, idle=full + draw(between(0, 2)), temperature=temperature)


share_seeds = st.integers(0, 999).map(lambda seed: np.random.default_rng(seed).random(TIME_S.size))


@few
@given(functions(), share_seeds, between(0, 24))
def test_pue_lies_between_its_bounds_and_chunks_have_that_of_the_whole(pue, share, start_hour):
    values = pue_series(pue, TIME_S, share, start_hour)
    assert (values >= pue.full - 1e-12).all()
    assert (values <= greatest_pue(pue) + 1e-12).all()
    parts = [pue_series(pue, TIME_S[k::2], share[k::2], start_hour) for k in (0, 1)]
    assert np.array_equal(values, np.column_stack(parts).ravel())


@few
@given(functions(), share_seeds, between(0, 1), between(0, 15))
def test_more_load_never_raises_the_pue_and_a_warmer_day_never_lowers_it(pue, share, more, warmer):
    usual = pue_series(pue, TIME_S, share, 0.0)
    assert (pue_series(pue, TIME_S, share + more, 0.0) <= usual + 1e-12).all()
    if pue.temperature is not None:
        warm = pue.temperature.model_copy(update={"mean_c": pue.temperature.mean_c + warmer})
        hot = pue_series(pue.model_copy(update={"temperature": warm}), TIME_S, share, 0.0)
        assert (hot >= usual - 1e-12).all()


def test_full_idle_and_a_warm_degree_cost_what_they_say():
    pue = PueFunction(full=1.2, idle=1.6)
    values = pue_series(pue, np.zeros(5), [-1.0, 0.0, 0.5, 1.0, 2.0], 0.0)
    assert values == pytest.approx([1.6, 1.6, 1.4, 1.2, 1.2])
    weather = Temperature(mean_c=15, swing_c=8, hottest_hour=15, above_c=20, per_c=0.01)
    pue = PueFunction(full=1.2, idle=1.2, temperature=weather)
    time_s = 3600 * np.array([15.0, 3.0])
    assert pue_series(pue, time_s, [1, 1], 0.0) == pytest.approx([1.23, 1.2])
    assert pue_series(pue, time_s - 9 * 3600, [1, 1], 9.0) == pytest.approx([1.23, 1.2])
    assert greatest_pue(pue) == pytest.approx(1.23)


def test_a_recorded_pue_holds_until_the_next_row(tmp_path):
    (tmp_path / "pue.csv").write_text("time_s,pue\n-60,1.5\n10,1.2\n20,1.4\n")
    steps = resolve_pue(PueFile(file="pue.csv"), tmp_path)
    values = pue_series(steps, [0, 9.75, 10, 19.75, 20, 1e6], np.ones(6), 0.0)
    assert values.tolist() == [1.5, 1.5, 1.2, 1.2, 1.4, 1.4]
    assert greatest_pue(steps) == 1.5
    constant = resolve_pue(1.3, tmp_path)
    assert set(pue_series(constant, TIME_S, TIME_S, 0.0)) == {1.3} == {greatest_pue(constant)}


@pytest.mark.parametrize(
    ("rows", "expected"),
    [("5,1.2", "line 2, time_s: 5 is late"), ("0,1.2\n9,0.9", "line 3, pue: 0.9 is no PUE")],
)
def test_a_damaged_pue_file_is_told_by_line(tmp_path, rows, expected):
    path = tmp_path / "pue.csv"
    path.write_text(f"time_s,pue\n{rows}\n")
    with pytest.raises(InputError) as caught:
        resolve_pue(PueFile(file="pue.csv"), tmp_path)
    assert f"{path}: {expected}" in str(caught.value)


def test_the_rest_of_a_server_is_constant_or_linear_or_grows_with_the_gpus():
    assert non_gpu_law(ConstantWatts(constant_w=1000), 4) == (1000, 0)
    assert non_gpu_law(LinearWatts(base_w=560, per_gpu_w=0.12), 4) == (560, 0.12)
    (four, slope), (eight, same) = (non_gpu_law(None, gpus) for gpus in (4, 8))
    assert eight == 2 * four > 0
    assert slope == same > 0
