"""Help: the guide's pages hold together, each product is explained, and what programs are told to do works."""

import importlib
import inspect
import pkgutil
import re
from datetime import timedelta
from html import unescape
from urllib.parse import quote

import numpy as np
import pytest
from astropy.io import fits
from toy_archive import NIGHT
from visitors import Visitor, served

import pipelines
from obsarchive.pipeline import Pipeline
from obsarchive.web.framework.authorization import digest_of
from obsarchive.web.models import guide

TOKEN = "arc_of_ana"


@pytest.fixture
def ana(app, archive) -> Visitor:
    visitor = Visitor(app.test_client())
    visitor.log_in("ana")
    return visitor


def test_every_page_of_the_guide_is_shown_and_its_links_lead_somewhere(ana) -> None:
    seen = {}
    for name in guide.names():
        answer = ana.get(f"/help/{name}")
        assert answer.status_code == 200, name
        seen[f"/help/{name}"] = answer.text
    for name, text in seen.items():
        article = text.split('<div class="text">')[1].split("<aside")[0].split("</main>")[0]
        for link in re.findall(r'(?:href|src)="([^"]+)"', article):
            path, _, anchor = link.partition("#")
            if link.startswith("http"):
                continue
            assert not path or path in seen or ana.get(path).status_code == 200, f"{name}: {link}"
            if anchor:
                assert f'id="{anchor}"' in seen[path or name], f"{name}: {link}"
    assert "<h1" in seen["/help/portal"]
    assert "/help/pictures/night.png" in seen["/help/portal"]


def test_the_contents_name_every_page_but_those_of_products(ana) -> None:
    listed = set(re.findall(r'href="/help/([^"]+)"', ana.get("/help").text))
    assert {name for name in guide.names() if not name.startswith("products/")} - listed == {"index"}


def test_what_is_no_page_is_not_found(ana) -> None:
    for name in ("nothing", "../README", "pictures", "pictures/nothing.png", "portal.md", "product?name=unknown.dat"):
        assert ana.get(f"/help/{name}").status_code == 404, name


def _shipped() -> list[type[Pipeline]]:
    modules = [importlib.import_module(f"pipelines.{found.name}") for found in pkgutil.iter_modules(pipelines.__path__)]
    kinds = {kind for module in modules for _, kind in inspect.getmembers(module, inspect.isclass)}
    return sorted((k for k in kinds if issubclass(k, Pipeline) and k.name), key=lambda kind: kind.name)


PRODUCTS = [
    (name, kind.name, step.name)
    for kind in _shipped()
    for step in kind.steps.values()
    for name in (*step.makes, *step.may_make)
]


@pytest.mark.parametrize(("name", "pipeline", "step"), PRODUCTS)
def test_every_product_of_the_shipped_pipelines_is_explained(name, pipeline, step) -> None:
    product = re.sub(r"\{\w+\}", "3_HD_1_VIC_lp600_o_20260314_034048.156567", name)
    page = guide.product_page(product)
    assert page is not None, f"{pipeline}.{step}: {product}"


@pytest.mark.parametrize(
    ("product", "page"),
    [
        ("20p.fits", "20p"),
        ("preview/3_HD_1_cropped.png", "plot_cropped"),
        ("pca/3_HD_1_contrast_curve.png", "plot_contrast"),
        ("pca/3_HD_1_contrast_curve.txt", "contrast_curve"),
        ("contrast_curve.20260314.txt", "contrast_of_night"),
        ("strehl.20260314.png", "strehl_of_night"),
        ("strehl/3_HD_1_strehl.txt", "strehl"),
        ("psflib/3_HD_1_pca.fits", "psflib"),
        ("seeing/seeing.20260314.png", "seeing"),
        ("dark_6.fits", "masters"),
    ],
)
def test_the_page_is_that_of_the_product(product, page) -> None:
    assert guide.product_page(product) == f"products/{page}"


def test_products_on_a_page_lead_to_their_explanation(ana, archive) -> None:
    text = ana.get(f"/observation/{archive.own}").text
    link = re.search(r'href="(/help/product\?name=100p\.fits)"', text)
    assert link
    assert "All frames (100p)" in ana.get(link.group(1)).text


def test_the_reference_names_every_address_with_what_it_answers(ana) -> None:
    text = ana.get("/help/api").text
    described = ana.get("/api/v1/openapi.json")
    assert set(re.findall(r"<summary><code>(?:GET|POST) /api/v1([^<]*)</code>", text)) == set(described.json["paths"])
    for expected in ("GET /api/v1/observations/{obs_id}/products", "products[].sha256", "POST /api/v1/observations"):
        assert expected in text
    assert "observations[].strehl_bright_star" in text


def _python(text: str) -> list[str]:
    found = re.findall(r"<h2>(Python[^<]*)</h2>.*?<code>(.*?)</code></pre>", text, re.DOTALL)
    return [code.replace("&#34;", '"').replace("&#39;", "'").replace("&amp;", "&") for _, code in found]


def test_scripts_that_are_shown_run(app, archive, sources, monkeypatch, capsys) -> None:
    target = "SIM-2026-BLG-0001"
    archive.toy.dataset("3", target, "gp", 60)
    app.store.tokens.add(digest_of(TOKEN), "ana", "notebook", ["read", "download"], timedelta(days=1))
    monkeypatch.setenv("ARCHIVER_TOKEN", TOKEN)
    for image in app.layout.observation(NIGHT, archive.own).rglob("*.fits"):
        image.unlink()
        fits.PrimaryHDU(np.zeros((4, 4), np.float32), fits.Header({"PIXSCALE": 0.0173})).writeto(image)
    pages = {
        f"/observation/{archive.own}": "0.0173",
        "/search?name=HD&unit=arcsec": archive.own,
        f"/night/{NIGHT}": archive.own,
        "/datasets": "datasets",
        "/target/HD_140283": "epochs",
        "/account": "archive",
        f"/tonight?night={NIGHT}": archive.own,
        "/programme/3": archive.own,
        f"/lightcurves?target={target}&star=1": "gp",
        f"/lightcurves/compare?target={target}&star=0&other=1": "gp",
        "/sources/compare?first=ANA 1&second=ANA 1": "export/csv",
        "/search?program=3&sort=date&limit=1": archive.own,  # which is not on the first page
        f"/dataset/{archive.datasets[0]}": "points",
    }
    with served(app) as address:
        ana = Visitor(app.test_client())
        ana.log_in("ana")
        for page, expected in pages.items():
            scripts = _python(ana.get(f"/help/program?of={quote(page)}").text)
            assert scripts, page
            for script in scripts:
                exec(compile(script.replace("http://localhost", address), page, "exec"), {})  # noqa: S102
            assert expected in capsys.readouterr().out, page


@pytest.mark.parametrize("page, view", [("sources", "sources"), ("events", "events"), ("search", "observations")])
def test_examples_find_what_the_page_found(ana, sources, page: str, view: str) -> None:
    text = unescape(ana.get(f"/help/program?of={quote(f'/{page}?name=ANA&cursor=x&state=')}").text)
    assert f"/api/v1/{view}?name=ANA" in text
    assert "cursor" not in text.split("<main")[1]


def test_a_page_of_others_has_no_examples(ana, archive) -> None:
    assert ana.get(f"/help/program?of=/observation/{archive.foreign}").status_code == 404
    elsewhere = ana.get("/help/program?of=//elsewhere.example/x").text
    assert "what there is" in elsewhere
    assert "elsewhere" not in elsewhere.split("<main")[1].split("</main>")[0]
    assert "what there is" in ana.get(f"/help/program?of={quote('http://[')}").text


def test_every_page_links_to_its_examples(ana, archive) -> None:
    text = ana.get(f"/observation/{archive.own}").text
    assert f"/help/program?of=/observation/{quote(archive.own)}" in text
    compared = ("/lightcurves/compare", "/sources/compare")
    for page in ("/tonight", "/lightcurves", *compared, "/events", "/programmes", "/sources", "/datasets"):
        link = f"/help/program?of={page}"
        assert link in ana.get(page).text
        assert ana.get(link).status_code == 200, page


def test_examples_of_a_source_are_those_of_the_project(ana, sources) -> None:
    text = ana.get(f"/help/program?of={quote('/source/ANA 1?project=ANA')}").text
    assert text.count("?project=ANA") == 3
