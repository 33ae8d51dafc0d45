"""A scenario is read as it is meant; a damaged one gets one line: file, line, key and mend."""

import re
import shutil
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sitetrace.cli.site import topology_of
from sitetrace.core.files import InputError
from sitetrace.core.registry import shipped_model
from sitetrace.core.settings import MAX_BYTES, key_tables
from sitetrace.site.scenario import Scenario, check_scenario, read_scenario

# each line names its key
SOUND = """\
name: example # name
seed: 1 # seed
hours: 24 # hours
start: 2026-07-01T00:30:00+02:00 # start
step_s: 0.25 # step_s
topology: # topology
  rows: 10 # topology.rows
  racks_per_row: 6 # topology.racks_per_row
  servers_per_rack: 4 # topology.servers_per_rack
fleet: # fleet
  - name: chat # fleet[0].name
    model: own.json # fleet[0].model
    rows: [2, 0] # fleet[0].rows
    idle_w: 80.0 # fleet[0].idle_w
    traffic: # fleet[0].traffic
      pattern: diurnal # fleet[0].traffic.pattern
      rate_per_server: 0.5 # fleet[0].traffic.rate_per_server
      swing: 0.5 # fleet[0].traffic.swing
      peak_hour: 15 # fleet[0].traffic.peak_hour
  - name: replayed # fleet[1].name
    model: testbed # fleet[1].model
    servers: 7 # fleet[1].servers
    traffic: # fleet[1].traffic
      pattern: replay # fleet[1].traffic.pattern
      file: requests.csv # fleet[1].traffic.file
      thin: 0.5 # fleet[1].traffic.thin
      speed: 2 # fleet[1].traffic.speed
      offset_h: 3 # fleet[1].traffic.offset_h
      routing: session # fleet[1].traffic.routing
  - name: rest # fleet[2].name
    model: testbed_timeline # fleet[2].model
traffic: # traffic
  pattern: bursty # traffic.pattern
  rate_per_server: 0.5 # traffic.rate_per_server
  cv: 2 # traffic.cv
  lengths: requests.csv # traffic.lengths
non_gpu: # non_gpu
  base_w: 560 # non_gpu.base_w
  per_gpu_w: 0.12 # non_gpu.per_gpu_w
pue: # pue
  full: 1.2 # pue.full
  idle: 1.5 # pue.idle
  temperature: # pue.temperature
    mean_c: 15 # pue.temperature.mean_c
    swing_c: 8 # pue.temperature.swing_c
    hottest_hour: 15 # pue.temperature.hottest_hour
    above_c: 20 # pue.temperature.above_c
    per_c: 0.01 # pue.temperature.per_c
keep: # keep
  - levels: [site, row, rack] # keep[0].levels
    step_s: 1 # keep[0].step_s
  - levels: [site] # keep[1].levels
    step_s: 0.25 # keep[1].step_s
chunk_s: 3600 # chunk_s
"""
LINES = SOUND.splitlines()
KEYS = [line.partition(" # ")[2] for line in LINES]
NUMBERS = [key for key, line in zip(KEYS, LINES, strict=True) if re.search(r": -?[\d.]+ #", line)]
REQUIRED = ["topology.rows", "fleet", "fleet[2].model", "fleet[0].traffic.pattern",
            "fleet[1].traffic.file", "pue.temperature.mean_c", "keep[1].step_s"]  # fmt: skip
# key, what stands there instead, at which key it is said (else there), and part of what is said
ODD = [
    ("hours", "24:00", "", "to base 60 or 8"),
    ("hours", "24\nhours: 24", "", "stands there twice (line 3)"),
    ("hours", "9" * 500, "", "plain number"),
    ("hours", "0.00001", "", "0.036 s are no multiple of 0.25 s"),
    ("topology.rows", "2.5", "", "valid integer"),
    ("start", "2026-07-01T00:00:00", "", "UTC offset"),
    ("topology.rows", "90000", "topology", "more than 100000"),
    ("fleet[0].name", "rest", "fleet[2].name", "is taken"),
    ("fleet[0].model", "owm.json", "", "did you mean own.json?"),
    ("fleet[0].rows", "[2, 10]", "fleet[0]", "24 of the servers that it asks for"),
    ("fleet[0].rows", "[1]\n    servers: 3", "fleet[0].servers", "has rows already"),
    ("fleet[1].servers", "193", "fleet[1]", "192 of the servers"),
    ("fleet[1].traffic.file", "recuests.csv", "", "cannot be read (No such file"),
    ("fleet[1].traffic.routing", "sticky", "", "there are random, round_robin"),
    ("fleet[0].traffic.pattern", "poisson", "fleet[0].traffic.swing", "no such key here"),
    ("keep[0].levels", "[site, hall]", "keep[0].levels[1]", "there are site, row, rack, server"),
    ("keep[0].step_s", "7", "", "3600 s are no multiple of 7 s"),
    ("keep[1].step_s", "0.25\n  - {levels: [row], step_s: 0.25}", "keep[2].step_s", "an entry"),
    ("pue.idle", "1.1", "", "give 1.2 or more"),
    ("chunk_s", '3600\n"two\\nlines": 2', "two lines", "no such key here"),
]  # fmt: skip
# what is no YAML that we read, and the line that is blamed
TORN = [
    ("chunk_s", "3600\n? [a]\n: 2", "line 55: no plain YAML"),
    ("chunk_s", "!!python/name:os.system", "line 54: "),
    ("seed", "1\n---", "line 3: "),
    ("start", "2026-02-30T00:00:00+00:00", "no plain YAML (day is out of range"),
]
TRAFFIC = {"pattern": "poisson", "rate_per_server": 1}
MINIMAL = {
    "topology": {"rows": 1, "racks_per_row": 2, "servers_per_rack": 3},
    "fleet": [{"name": "all", "model": "testbed"}],
    "traffic": TRAFFIC,
}
WHOLES = {
    b"": "no mapping",
    "name: Köln\n".encode("latin-1"): "UTF-8",
    b"a: &a [x]\nb: &b [*a, *a]\nc: [*b, *b]\n": "line 2, key b[0]: an alias",
    b"a: " + b"[" * 2_000: "no plain YAML",
    b"#" * (MAX_BYTES + 1): "more than",
}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with the files that the sound scenario names."""
    folder = tmp_path_factory.mktemp("scenario")
    shutil.copy(shipped_model("testbed"), folder / "own.json")
    (folder / "requests.csv").write_text("arrival_s,input_tokens,output_tokens\n0,1,1\n")
    return folder


@pytest.fixture
def fault_of(place):
    """What is said of a damaged scenario: one line that begins with the file's name."""

    def read(text):
        path = place / "site.yaml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        with pytest.raises(InputError) as caught:
            read_scenario(path)
        said = str(caught.value)
        assert said.startswith(f"{path}: ") and "\n" not in said and len(said) < 400
        return said.removeprefix(f"{path}: ")

    return read


def changed(key, value):
    """Return the sound text with another value at a key."""
    place = KEYS.index(key)
    head = LINES[place].partition(":")[0]
    return "\n".join([*LINES[:place], f"{head}: {value}", *LINES[place + 1 :]])


def without(key):
    """Return the sound text without a key and all below it."""
    kept = [
        re.sub(r"^(\s*)- ", r"\1  ", line) if re.fullmatch(rf"{re.escape(key)}\[.*", name) else line
        for line, name in zip(LINES, KEYS, strict=True)
        if not (name == key or re.match(rf"{re.escape(key)}[.\[]", name))
    ]
    return "\n".join(kept)


def names(said, key):
    """Whether a fault names a key, and the line where it stands in the sound text."""
    return said.startswith(f"line {KEYS.index(key) + 1}, key {key}: ")


def test_a_sound_scenario_says_what_it_says(place):
    (place / "sound.yaml").write_text(SOUND)
    scenario = read_scenario(place / "sound.yaml")
    assert (scenario.n_servers, scenario.n_steps) == (240, 345_600)
    assert (scenario.start_hour, scenario.start.utcoffset()) == (0.5, timedelta(hours=2))
    assert scenario.folder == place
    pool_of = scenario.pool_of()
    assert np.bincount(pool_of).tolist() == [48, 7, 185]
    # row by row, and whole rows are taken first
    assert set(np.flatnonzero(pool_of == 0) // 24) == {0, 2}
    assert np.flatnonzero(pool_of == 1).tolist() == list(range(24, 31))


@pytest.mark.parametrize("key", KEYS)
def test_a_misspelt_key_is_told_the_right_one(fault_of, key):
    name = re.sub(r"\[\d+\]", "", key).split(".")[-1]
    place = KEYS.index(key)
    wrong = LINES[place].replace(f"{name}:", f"{name}x:", 1)
    said = fault_of("\n".join([*LINES[:place], wrong, *LINES[place + 1 :]]))
    assert names(said.replace(f"{name}x:", f"{name}:", 1), key)
    assert f"no such key here: did you mean {name}?" in said


@pytest.mark.parametrize("value", ['"0.5"', "true", ".nan", "{a: 1}", "-61", "1.0e+30"])
@pytest.mark.parametrize("key", NUMBERS)
def test_a_number_is_a_number_within_its_range(fault_of, key, value):
    said = fault_of(changed(key, value))
    assert names(said, key)
    assert "should be " in said


@pytest.mark.parametrize("key", REQUIRED)
def test_a_missing_key_is_named(fault_of, key):
    said = fault_of(without(key))
    assert re.match(rf"line \d+, key {re.escape(key)}: is missing: \w+", said)


@pytest.mark.parametrize(("key", "value", "at", "expected"), ODD)
def test_an_odd_value_is_told_its_mend(fault_of, key, value, at, expected):
    said = fault_of(changed(key, value))
    assert re.match(rf"line \d+, key {re.escape(at or key)}: ", said)
    assert expected in said


@pytest.mark.parametrize(("key", "value", "expected"), TORN)
def test_what_is_no_plain_yaml_is_told_by_line(fault_of, key, value, expected):
    assert fault_of(changed(key, value)).startswith(expected)


@pytest.mark.parametrize("content", WHOLES, ids=WHOLES.values())
def test_a_file_that_is_no_scenario_is_refused(fault_of, content):
    assert WHOLES[content] in fault_of(content)


LEFT_OUT = [
    ("traffic", "", "fleet[2].traffic", "is missing, here and at the top"),
    ("fleet[0].rows", "", "fleet[0]", "only the last pool takes the rest: give rows or servers"),
    ("pue", "pue: {file: pue.csv}", "pue.file", "read"),
    ("pue", "pue: {file: requests.csv, full: 1}", "pue.full", "no such key"),
]


@pytest.mark.parametrize(("key", "instead", "at", "expected"), LEFT_OUT)
def test_what_stands_instead_of_a_part_is_told_its_mend(fault_of, key, instead, at, expected):
    said = fault_of(f"{without(key)}\n{instead}")
    assert f", key {at}: " in said and expected in said


def test_what_is_left_out_has_its_usual_value():
    made = check_scenario(MINIMAL)
    assert made.start == datetime(2001, 1, 1, tzinfo=UTC)
    assert (made.keep[0].levels, made.keep[0].step_s) == (("site", "row", "rack"), 1.0)
    assert (made.hours, made.step_s, made.pue, made.non_gpu) == (24, 0.25, 1.3, None)
    # where seconds do not fit, the step itself
    assert Scenario.model_validate(MINIMAL | {"step_s": 0.4}).keep[0].step_s == 0.4


@pytest.mark.parametrize("hours", [1 / 3, 0.3333333333333333, 6.94444444444e-05, 1e-5 * 25 / 3])
def test_a_part_of_an_hour_is_whole_steps_to_the_microsecond(hours):
    made = Scenario.model_validate(MINIMAL | {"hours": hours, "step_s": 0.01})
    assert made.n_steps == round(360_000 * hours)


numbers = st.floats(0.001, 1, allow_subnormal=False)
zones = st.integers(-12 * 60, 14 * 60).map(lambda m: timezone(timedelta(minutes=m)))
levels = st.sets(st.sampled_from(["site", "row", "rack", "server"]), min_size=1).map(list)
OPTIONAL = {
    "pue": st.sampled_from([1.5, {"file": "pue.csv"}, {"full": 1.1, "idle": 1.25}]),
    "non_gpu": st.fixed_dictionaries({"constant_w": numbers}),
}
CONTENT = {
    "seed": st.integers(0, 2**63 - 1),
    "hours": st.integers(1, 8784),
    "step_s": st.sampled_from([0.1, 0.25, 0.5, 1, 5]),
    "start": st.datetimes(datetime(1999, 1, 1), datetime(2100, 1, 1), timezones=zones),
    "keep": st.tuples(st.fixed_dictionaries({"levels": levels, "step_s": st.just(900)})),
    "traffic": st.sampled_from([TRAFFIC | {"pattern": "bursty", "cv": 0.5},
                                {"pattern": "replay", "file": "ü"}]),
}  # fmt: skip


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.fixed_dictionaries(CONTENT, optional=OPTIONAL), st.data())
def test_a_scenario_comes_back_from_its_json_and_pools_get_what_they_ask_for(content, data):
    rows, racks, servers = (data.draw(st.integers(1, 6)) for _ in range(3))
    content["topology"] = {"rows": rows, "racks_per_row": racks, "servers_per_rack": servers}
    mine = data.draw(st.sets(st.integers(0, rows - 1), max_size=rows - 1))
    fleet = [{"name": "rows", "model": "a", "rows": sorted(mine)}] if mine else []
    if (left := (rows - len(mine)) * racks * servers) > 1:
        asked = data.draw(st.integers(1, left - 1))
        fleet.append({"name": "some", "model": "b", "servers": asked, "traffic": TRAFFIC})
    fleet.append({"name": "rest", "model": "c", "idle_w": data.draw(numbers)})
    scenario = Scenario.model_validate(content | {"fleet": fleet})
    text = scenario.model_dump_json(exclude_none=True)
    again = Scenario.model_validate_json(text)
    assert again == scenario and again.model_dump_json(exclude_none=True) == text
    assert again.start == scenario.start and again.start_hour == scenario.start_hour
    pool_of = scenario.pool_of()
    assert pool_of.size == scenario.n_servers == rows * racks * servers
    for place, pool in enumerate(scenario.fleet):
        held = np.flatnonzero(pool_of == place)
        assert not pool.rows or set(held // (racks * servers)) == set(pool.rows)
        assert pool.servers in (None, held.size)


@given(st.integers(1, 100_000))
def test_servers_without_a_scenario_stand_in_full_racks(servers):
    rows, per_row, per_rack = topology_of(servers).values()
    assert rows * per_row * per_rack == servers and per_rack <= 4
    assert rows == 1 or per_row == 6


def test_the_page_has_all_keys_and_an_example_that_is_read(tmp_path):
    page = (Path(__file__).parents[1] / "book" / "scenario.md").read_text("utf-8")
    text, _, tables = page.partition("prints these tables.\n\n")
    assert tables.strip() == key_tables(Scenario), "put the output of sitetrace site --keys there"
    (tmp_path / "example.yaml").write_text(re.search(r"```yaml\n(.*?)```", text, re.DOTALL)[1])
    example = read_scenario(tmp_path / "example.yaml")
    assert np.bincount(example.pool_of()).tolist() == [72, 80, 88]


EDIT = st.tuples(st.integers(0, len(SOUND)), st.integers(0, 9), st.text(max_size=3))


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(EDIT, min_size=1, max_size=4))
def test_whatever_is_written_over_it_is_read_or_told_in_one_line(place, edits):
    text = SOUND
    for at, length, new in edits:
        text = text[:at] + new + text[at + length :]
    path = place / "edited.yaml"
    path.write_text(text, "utf-8")
    try:
        assert read_scenario(path).n_servers >= 1
    except InputError as error:
        assert str(error).startswith(f"{path}: ")
        assert "\n" not in str(error)
