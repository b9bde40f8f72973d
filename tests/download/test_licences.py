"""Licences of Commons' files by the items of their statements."""

from __future__ import annotations

import re

from download.licences import licence_of, licences


def test_licences_have_the_names_that_their_owners_use():
    # Items and names: https://www.wikidata.org/wiki/Q18199165, .../Q6938433, .../Q50829104
    assert licence_of(["Q18199165"], ["Q50423863"]) == "CC BY-SA 4.0"
    assert licence_of(["Q6938433"], ["Q88088423"]) == "CC0 1.0"
    assert licence_of(["Q42716613"], []) == "CC BY-SA 3.0 DE"


def test_of_several_licences_one_is_chosen():
    both = ["Q50829104", "Q14946043", "Q50829104"]
    assert licence_of(both, []) == "GFDL-1.2-or-later or CC BY-SA 3.0"


def test_a_licence_outside_the_table_keeps_its_id():
    assert licence_of(["Q9000000001", "Q20007257"], []) == "Q9000000001 or CC BY 4.0"


def test_a_status_speaks_where_there_is_no_licence():
    assert licence_of([], ["Q50423863", "Q19652"]) == "Public domain"
    assert licence_of([], ["Q88088423"]) == "Dedicated to the public domain"
    assert licence_of([], ["Q50423863"]) is None  # copyrighted: says nothing of a licence
    assert licence_of([], []) is None


def test_names_and_addresses_of_creative_commons_fit_together():
    cc = [one for one in licences().values() if re.match(r"CC BY.* \d", one.name)]
    assert len(cc) > 150
    for name, url in cc:
        kind, version, *where = name.removeprefix("CC ").lower().split(" ")
        path = "/".join([kind, version, *where])
        assert url == f"https://creativecommons.org/licenses/{path}/"


def test_the_table_is_one_line_a_licence():
    table = licences()
    assert all(re.fullmatch(r"Q[1-9]\d*", item) for item in table)
    assert len({one.name for one in table.values()}) == len(table)
    assert all(one.url.startswith(("https://", "http://")) for one in table.values())
