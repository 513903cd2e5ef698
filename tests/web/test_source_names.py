"""Sources of any name in the portal, over a real connection: servers and browsers read paths in their own way."""

import re
from urllib.parse import quote, urljoin

import httpx
import pytest
from visitors import PASSWORD

NAMES = ["C/2023 A3", "KMT-2019-BLG-0001/OGLE-2019-BLG-0002", "..", ".", "/", "a//b/", "../../login", "a/matches"]
NAMES += ["a/export/csv", "~~2E", "50%2F", "\u03b7 Car", "q?x=1#y", "a\\b", "a\nb", " x "]


@pytest.fixture
def ana(address: str, archive):
    with httpx.Client(base_url=address, follow_redirects=False) as client:
        token = re.search(r'name="csrf_token" value="([^"]*)"', client.get("/login").text)[1]
        client.post("/login", data={"csrf_token": token, "username": "ana", "password": PASSWORD})
        yield client


def test_every_name_has_a_page_a_place_in_the_interface_and_exports(archive, ana: httpx.Client) -> None:
    archive.toy.project("ODD", [])
    for n, name in enumerate(NAMES):
        archive.toy.source("ODD", {"name": name, "ra": 0.01 * n, "dec": 1.0, "mag": 15.0})
    shown = ana.get("/sources?project=ODD&limit=100").text
    links = [link.replace("&amp;", "&") for link in re.findall(r'<td class="subject"><a href="(/source/[^"]*)"', shown)]
    assert len(links) == len(NAMES)
    listed = ana.get("/api/v1/sources?project=ODD&limit=100").json()["sources"]
    assert [one["name"] for one in listed] == sorted(NAMES)
    for one, link in zip(listed, links, strict=True):
        name = one["name"]
        # a browser resolves dots, also escaped ones, before it asks
        resolved = urljoin(str(ana.base_url), link.replace("%2E", ".").replace("%2e", "."))
        page = ana.get(resolved)
        assert page.status_code == 200, name
        found = ana.get(one["url"]).json()
        assert found["name"] == name
        assert ana.get(found["points"]).json()["lightcurves"][0]["n"] > 0
        exports = re.findall(r'href="(/source/[^"]*/export/csv[^"]*)"', page.text)
        table = ana.get(exports[0].replace("&amp;", "&"))
        assert table.status_code == 200, name
        assert table.headers["Content-Disposition"].startswith("attachment; filename=")
        assert table.text.startswith("source,")


def test_slashes_may_be_typed_as_they_are_or_escaped(archive, ana: httpx.Client) -> None:
    archive.toy.project("ODD", [])
    for name in ("C/2023 A3", "50%2F"):
        archive.toy.source("ODD", {"name": name, "ra": 1.0, "dec": 1.0, "mag": 15.0})
        for address in {quote(name, safe=""), quote(name)}:
            assert f"<h1>{name}" in ana.get(f"/source/{address}").text.replace("\n", "").replace("  ", ""), address
            assert ana.get(f"/source/{address}/export/csv").status_code == 200
            assert ana.get(f"/api/v1/sources/{address}").json()["name"] == name
    assert ana.get("/source/~~2E~2E").status_code == 404
