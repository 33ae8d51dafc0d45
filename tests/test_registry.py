"""What public data there are, that they are what they claim, and that no fit sees its judge."""

import functools
import hashlib
import http.server
import json
import shutil
import threading
from pathlib import Path

import pytest

from sitetrace.core import registry
from sitetrace.core.files import InputError
from sitetrace.core.registry import read_paper_table
from sitetrace.measured import fetching
from sitetrace.measured.rundir import read_run

SAMPLES = Path(__file__).parent / "samples"
RUN_FILES = {
    "power.csv": "nvidia_smi_units_in_header.csv",
    "requests.json": "vllm_bench_serve.json",
    "engine.csv": "vllm_metrics.csv",
}


class CountingHandler(http.server.SimpleHTTPRequestHandler):
    served: list[str] = []

    def do_GET(self):
        CountingHandler.served.append(self.path)
        super().do_GET()

    def log_message(self, *args):
        pass


@pytest.fixture
def world(tmp_path, monkeypatch):
    """A registry of one run and one table, and a server that has them."""
    upstream = tmp_path / "served" / "someone" / "power" / "c0ffee"
    upstream.mkdir(parents=True)
    for name, sample in RUN_FILES.items():
        shutil.copy(SAMPLES / sample, upstream / name)
    shutil.copy(SAMPLES / "zeus.csv", upstream / "table.csv")
    digest = hashlib.sha256((upstream / "table.csv").read_bytes()).hexdigest()
    common = {"what": "w", "licence": "l", "repository": "someone/power", "commit": "c0ffee"}
    run_names = ("run.json", "power.csv", "requests.csv", "engine.csv")
    totals = {name: fetching.content_totals(upstream / name) for name in RUN_FILES}
    run = common | {"folder": "measured/tiny", "files": dict.fromkeys(run_names, "")}
    run["upstream"] = {name: {"path": name, "totals": each} for name, each in totals.items()}
    run |= {"utc_offset_s": -14400.0, "run": {"model": "example/model", "hardware": "A100"}}
    table = common | {"folder": "workload", "files": {"table.csv": digest}}
    table["upstream"] = {"table.csv": {"path": "table.csv", "sha256": digest}}
    (tmp_path / "data").mkdir()
    entries = {"datasets": {"tiny": run, "table": table}}
    (tmp_path / "data" / "registry.json").write_text(json.dumps(entries))
    monkeypatch.setattr(registry, "data_dir", lambda: tmp_path / "data")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("SITETRACE_DATA", raising=False)
    handler = functools.partial(CountingHandler, directory=str(tmp_path / "served"))
    CountingHandler.served.clear()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}", upstream
        server.shutdown()
        thread.join()


def test_a_fetched_run_is_a_run_directory_and_what_is_here_is_not_loaded_again(world):
    url, _ = world
    notes = fetching.fetch("tiny", url)
    assert len(read_run(registry.dataset_path("tiny")).requests) == 5
    assert "1 failed requests left out" in " ".join(notes)
    assert fetching.verify("tiny")[0] == "tiny: power.csv: content totals agree"
    cut = registry.cache_dir() / "raw" / "tiny" / "engine.csv"
    cut.write_bytes(cut.read_bytes()[:700])
    CountingHandler.served.clear()
    notes = fetching.fetch("tiny", url)
    assert [path.rsplit("/", 1)[1] for path in CountingHandler.served] == ["engine.csv"]
    assert sum("here already" in note for note in notes) == 2


def test_a_tampered_file_is_refused_by_digest_and_by_totals(world):
    url, upstream = world
    for name, file, old in (("table", "table.csv", "1"), ("tiny", "power.csv", "70.00")):
        (upstream / file).write_text((upstream / file).read_text().replace(old, "70.01", 1))
        with pytest.raises(InputError, match=f"{file}: not the file that the registry names"):
            fetching.fetch(name, url)
        with pytest.raises(InputError, match="not at hand"):
            registry.dataset_path(name)


def test_verify_sees_a_later_change(world):
    url, _ = world
    fetching.fetch("table", url)
    assert fetching.verify("table") == ["table: table.csv: SHA-256 as upstream"]
    fetched = registry.dataset_path("table") / "table.csv"
    fetched.write_bytes(fetched.read_bytes()[:-1])
    with pytest.raises(InputError, match="fetch table"):
        fetching.verify("table")


@pytest.mark.parametrize("raw_too", [False, True])
def test_verify_sees_a_change_in_the_run_that_is_used_and_fetch_mends_it(world, raw_too):
    url, _ = world
    fetching.fetch("tiny", url)
    power = registry.dataset_path("tiny") / "power.csv"
    written = power.read_bytes()
    power.write_bytes(written.replace(b"70.0", b"71.0", 1))  # as of another version of the raw file
    if raw_too:
        (registry.cache_dir() / "raw" / "tiny" / "power.csv").unlink()
    with pytest.raises(InputError, match=r"tiny/power.csv.*fetch tiny again"):
        fetching.verify("tiny")
    fetching.fetch("tiny", url)
    assert power.read_bytes() == written
    fetching.verify("tiny")


def test_what_cannot_be_loaded_is_said_in_one_line_with_its_address(world):
    url, upstream = world
    (upstream / "table.csv").unlink()
    for base_url, why in {url: "404", "http://127.0.0.1:9": "127.0.0.1:9/.*try later"}.items():
        with pytest.raises(InputError, match=why) as caught:
            fetching.fetch("table", base_url)
        assert "\n" not in str(caught.value)


def test_the_mirror_comes_first(world, tmp_path, monkeypatch):
    _, upstream = world
    (tmp_path / "mirror" / "workload").mkdir(parents=True)
    shutil.copy(upstream / "table.csv", tmp_path / "mirror" / "workload")
    monkeypatch.setenv("SITETRACE_DATA", str(tmp_path / "mirror"))
    assert registry.dataset_path("table") == tmp_path / "mirror" / "workload"
    assert "nothing to fetch" in fetching.fetch("table")[0]
    assert "mirror digests" in fetching.verify("table")[0]
    monkeypatch.setenv("SITETRACE_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(InputError, match="no such folder"):
        registry.mirror()


def test_every_entry_says_where_it_is_from_and_under_what_licence():
    for name, entry in registry.registry().items():
        assert all(entry[key] for key in ("what", "licence", "citation", "repository", "commit"))
        assert all(len(digest) == 64 for digest in entry["files"].values()), name
        assert ("upstream" in entry) != ("fetch" in entry), name
        for expected in entry.get("upstream", {}).values():
            assert ("sha256" in expected) != ("totals" in expected)
    assert len(registry.describe()) == len(registry.registry())
    for look_up in (registry.dataset_path, read_paper_table):
        with pytest.raises(InputError, match="nonesuch: no "):
            look_up("nonesuch")


def test_the_mirror_is_what_the_registry_says(measured):
    for name, entry in registry.registry().items():
        told = f"{len(entry['files'])} files agree with their mirror digests"
        assert fetching.verify(name)[0].endswith(told)


def test_totals_of_upstream_are_those_of_the_copied_runs(measured):
    for name in (name for name, entry in registry.registry().items() if "run" in entry):
        run, upstream = read_run(measured / name), registry.registry_entry(name)["upstream"]
        power, requests = (upstream[file]["totals"] for file in ("power.csv", "requests.json"))
        assert power["power_w"] == pytest.approx(run.samples["power_w"].sum(), abs=0.01)
        assert requests["output_lens"] == run.requests["output_tokens"].sum()
