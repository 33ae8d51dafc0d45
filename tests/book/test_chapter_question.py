"""The first chapter states the paper's claims with its own numbers and links to their answers."""

import re

import pytest

from sitebook.old.chapters import question as chapter
from sitebook.old.ledger.claims import claims
from sitebook.old.ledger.records import write_records


def test_every_claim_that_is_listed_is_one_of_the_papers_numbers():
    known = claims()
    for _, text, names in chapter.CLAIMS:
        assert text.count("{}") == len(names)
        for name in names:
            table, row, column = name.split(":")
            rows = known[(known["table"] == table) & (known["column"] == column)]
            assert row == "*" or name in rows.index
            assert len(rows) > 0


def test_chapters_with_a_page_are_linked_and_others_are_called_later():
    lines = chapter.claim_list({"published", "states-testbed", "states-measured"}).splitlines()
    assert [int(line.partition(".")[0]) for line in lines] == list(range(1, len(lines) + 1))
    links = re.findall(r"\[([^]]+)\]\(([^)]+)\)", "\n".join(lines))
    assert set(links) == {("published", "published"), ("states", "states-testbed")}
    assert "→ later chapter: modulation" in lines[-1]


def test_numbers_stand_as_printed():
    text = chapter.claim_list(set())
    assert "(22 of 25) have a median absolute energy error below 5%" in text
    assert "57 racks by traces and 23 by nameplate" in text


def test_the_papers_servers_stay_below_nameplate_on_average_but_not_at_every_instant():
    shares = chapter.server_shares("paper").set_index("server")
    assert len(shares) == 33
    assert (shares["mean_share"] < 0.75).all()
    one = shares.loc["deepseek-r1-distill-8b_A100_tp1"]
    assert one["nameplate_w"] == 400
    assert one["max_share"] == pytest.approx(450.67 / 400)


def test_runs_of_the_testbed_are_compared_with_their_own_nameplate():
    shares = chapter.server_shares("testbed")
    assert (shares["nameplate_w"] == 400).all()
    assert (shares["mean_w"] < shares["max_w"]).all()


def test_the_sites_nameplate_follows_from_its_settings():
    rows = write_records(chapter.found(chapter.server_shares("paper"), "paper"))
    [site] = [row for row in rows if row["claim"]]
    assert (site["value"], site["verdict"]) == (1185.6, "follows")


def test_nothing_of_a_sites_nameplate_is_left_by_nameplate_itself():
    table = chapter.site_table().set_index("method")
    assert table.loc["tdp", "unused_share"] == 0
    assert table.loc["ours", "unused_share"] == pytest.approx(1 - 0.7519 / 1.1856)
