"""Pages of targets: three nights of one star by three names, with a companion that moves."""

import io
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage
from toy_archive import ToyArchive
from visitors import Visitor

from obsarchive.instruments.base import coordinates
from obsarchive.io.fits_products import Provenance, tan_wcs, write_fits
from obsarchive.web.models import filter_marks
from obsarchive.web.models.trend_plots import OUTLINES

STATIC = Path(__file__).parents[2] / "static"
PLACE = (169.6, 31.52)
SCALE, FWHM_ARCSEC = 0.0174, 0.12
EPOCHS = (
    # night, programme, name, separation [arcsec], position angle [deg], north of the image [deg], place of the star
    ("20130301", "3", "HIP_55203", 0.80, 49.0, 23.7, (90.2, 101.6)),
    ("20140302", "3", "hip-55203", 0.85, 52.0, 23.7, (101.5, 96.3)),
    ("20150303", "4", "HIP55203", 0.90, 55.0, -10.0, (95.9, 99.1)),
)
"""The truth: the companion moves by 0.05 arcsec and 3 deg from night to night."""


def observe(toy: ToyArchive, number: int) -> str:
    night, program, name, separation, angle, north, star = EPOCHS[number]
    place = coordinates(PLACE[0] + number * 1e-4, PLACE[1], {})
    obs = toy.observation(program, name, 3 * number, night=night, coordinates=place)
    toy.reduced(obs, number, strehl=12.0 + number)
    seen = {
        "separation_arcsec": separation + 0.001,
        "separation_error_arcsec": 0.002,
        "position_angle_deg": angle - 0.04,
        "position_angle_error_deg": 0.1,
        "delta_mag": 2.5,
        "delta_mag_error": 0.03,
    }
    toy.step(obs, "bright_star", "pca", state="done", products=[], results={"detections": [seen]})
    y, x = np.mgrid[:190, :200].astype(float)
    sigma, direction = FWHM_ARCSEC / 2.3548 / SCALE, np.radians(north + angle)
    dy, dx = separation / SCALE * np.cos(direction), -separation / SCALE * np.sin(direction)
    image = sum(
        peak * np.exp(-((y - star[0] - oy) ** 2 + (x - star[1] - ox) ** 2) / (2 * sigma**2))
        for oy, ox, peak in ((0, 0, 10.0 ** (2 + number)), (dy, dx, 10.0 ** (1 + number)))
    )
    header = {"GUIDEY": star[0] + 1.4, "GUIDEX": star[1] + 0.7, **tan_wcs(*PLACE, (95, 95), SCALE, north, True)}
    path = toy.layout.observation(night, obs) / "bright_star" / "100p.fits"
    write_fits(path, image.astype(np.float32), header, Provenance("1", "bright_star", "reduce", "0" * 16))
    return obs


@pytest.fixture
def star(app, archive) -> SimpleNamespace:
    """Return the names of the three observations; the last one belongs to another programme."""
    return SimpleNamespace(toy=archive.toy, ids=[observe(archive.toy, number) for number in range(3)])


def test_a_close_up_has_the_digits_of_the_table(star, as_user) -> None:
    exact = {"ratio_percent": 15.314, "ratio_error_percent": 0.1}
    star.toy.step(star.ids[0], "bright_star", "strehl", state="done", products=[], results=exact)
    page = as_user("ana").get("/target/HIP_55203").text
    assert "Strehl 15.31 %" in page.split("<figcaption>", 1)[1]
    assert "15.31 ± 0.10" in page


def rows(page: str, ids: list[str]) -> list[str]:
    table = page.split("<tbody>")[1]
    return [name for name in ids if name in table]


@pytest.mark.parametrize("name", ["hip 55203", "HIP_55203", "HIP55203", "hip_0055203"])
def test_three_spellings_are_one_page(star, as_user, name: str) -> None:
    page = as_user("admin").get(f"/target/{name}").text
    assert rows(page, star.ids) == star.ids
    assert "3 epochs in 3 nights, 2013-03-01 to 2015-03-03" in page
    assert [page.count(f'<td><a href="/programme/{program}">') for program in "34"] == [2, 1]
    assert "0.801" in page
    assert "± 0.0020" in page


def test_what_belongs_to_others_is_no_epoch(star, as_user) -> None:
    page = as_user("ana").get("/target/HIP_55203").text
    assert rows(page, star.ids) == star.ids[:2]
    assert "2 epochs in 2 nights" in page
    assert "2015" not in page.split("<main")[1].split("</main>")[0]
    assert "HIP55203" not in page
    assert as_user("ben").get("/target/HIP_55203").text.count("1 epoch in 1 night") == 1
    assert as_user("pia").get("/target/HIP_55203").status_code == 404
    assert as_user("ana").get(f"/observation/{star.ids[2]}/close-up.png").status_code == 404


def test_other_names_at_the_same_place_join(app, star, as_user) -> None:
    near, far = (coordinates(PLACE[0], PLACE[1] + offset / 3600, {}) for offset in (4.0, 9.0))
    other = star.toy.observation("3", "Lalande", 50, coordinates=near)
    apart = star.toy.observation("3", "neighbour", 52, coordinates=far)
    page = as_user("ana").get("/target/HIP_55203").text
    assert other in page
    assert apart not in page
    assert "<h1>HIP_55203</h1>" in page, "the name that was asked for"
    assert "Also hip-55203, Lalande." in page
    assert star.ids[0] in as_user("ana").get("/target/Lalande").text
    assert as_user("ana").get("/target/nothing of this name").status_code == 404


def test_the_page_is_called_as_it_was_asked_for(app, star, as_user) -> None:
    """Also where the place has another name more often."""
    for number in range(4):
        star.toy.observation("3", "Companion", 20 + number, coordinates=coordinates(*PLACE, {}))
    page = as_user("ana").get("/target/hip 55203").text
    assert "<h1>hip-55203</h1>" in page, "as it was entered last"
    assert "<h1>Companion</h1>" in as_user("ana").get("/target/companion").text


def test_trends_show_the_truth_with_errors(star, as_user) -> None:
    page = as_user("admin").get("/target/HIP_55203").text
    for words in (
        "2013-03-01 lp600: 12.0 ± 0.4%",
        "2013-03-01: 0.8010 ± 0.0020″",
        "2014-03-02: 0.8510 ± 0.0020″",
        "2015-03-03: 54.96 ± 0.10°",
        "2.500 ± 0.030 mag",
    ):
        assert words in page, words


def close_up(visitor: Visitor, obs_id: str, half: float = 1.5) -> np.ndarray:
    answer = visitor.get(f"/observation/{obs_id}/close-up.png?half={half}")
    assert (answer.status_code, answer.mimetype) == (200, "image/png")
    return np.asarray(Image.open(io.BytesIO(answer.data)).convert("L"), dtype=float)


def centroid(picture: np.ndarray, y: float, x: float) -> tuple[float, float]:
    top, left = round(y) - 12, round(x) - 12
    part = picture[top : top + 25, left : left + 25]
    dy, dx = ndimage.center_of_mass(np.clip(part - 0.7 * part.max(), 0, None))
    return top + dy, left + dx


def test_blinked_pictures_lie_over_each_other(star, as_user) -> None:
    """Stars within 0.5 pixel of one place, companions where the truth has them, north up, whatever the image."""
    admin, middle, per_arcsec = as_user("admin"), 239.5, 480 / 3.0
    for obs_id, (_, _, _, separation, angle, *_) in zip(star.ids, EPOCHS, strict=True):
        picture = close_up(admin, obs_id)
        assert centroid(picture, middle, middle) == pytest.approx((middle, middle), abs=0.5)
        turned = np.radians(angle)
        where = middle - separation * per_arcsec * np.cos(turned), middle - separation * per_arcsec * np.sin(turned)
        assert centroid(picture, *where) == pytest.approx(where, abs=0.5)


def test_pictures_are_asked_for_once(star, as_user) -> None:
    admin, address = as_user("admin"), f"/observation/{star.ids[0]}/close-up.png"
    first = admin.get(address)
    again = admin.get(address, headers={"If-None-Match": first.headers["ETag"]})
    assert (first.status_code, again.status_code, again.data) == (200, 304, b"")
    assert admin.get(f"{address}?half=4", headers={"If-None-Match": first.headers["ETag"]}).status_code == 200
    assert admin.get(f"{address}?half=1e9").status_code == 400
    assert admin.get(f"{address}?half=nan").status_code == 400


def test_points_have_the_marks_of_their_filters(app, star, as_user) -> None:
    """Also those of companions, and where every point is of the same filter."""
    for name, band in zip(star.ids, ("Si", "Sr", "H"), strict=True):
        app.store.observations.set_fields(name, {"filter": band})
    admin = as_user("admin")
    page = admin.get("/target/HIP_55203").text
    plots = page.split('<svg class="trend"')[1:]
    assert len(plots) == 5
    for plot in plots:
        marks = re.findall(
            r'<a href="[^"]*" class="([\w-]+)"[^>]*>.*?<path class="dot" d="M[\d.,]+ ([^"]*)"', plot, re.DOTALL
        )
        wanted = [("filter-i", "square"), ("filter-r", "triangle"), ("filter-other-0", "circle")]
        assert marks == [(style, OUTLINES[shape]) for style, shape in wanted]
        assert re.findall(r'<span class="([\w-]+)"><svg class="key".*?</svg> (\w+)</span>', plot, re.DOTALL) == [
            ("filter-i", "Si"),
            ("filter-r", "Sr"),
            ("filter-other-0", "H"),
        ]
    for name in star.ids:
        app.store.observations.set_fields(name, {"filter": "Sz"})
    page = admin.get("/target/HIP_55203").text
    assert page.count('class="filter-z"') == page.count('<path class="dot"')
    assert OUTLINES["circle"] not in page


def test_points_of_several_companions_have_letters(star, as_user) -> None:
    second = {"separation_arcsec": 1.9, "position_angle_deg": 200.0, "delta_mag": 5.0}
    first = {"separation_arcsec": 0.8, "position_angle_deg": 49.0, "delta_mag": 2.5}
    star.toy.step(star.ids[0], "bright_star", "pca", state="done", products=[], results={"detections": [first, second]})
    plot = as_user("admin").get("/target/HIP_55203").text.split('<svg class="trend"')[3]
    assert re.findall(r'class="letter"[^>]*>(\w)<', plot) == ["b", "c", "b", "b"]
    assert plot.count('class="filter-lp600" aria-label') == 4


def test_marks_are_those_of_every_page() -> None:
    script, sheet = ((STATIC / name).read_text() for name in ("plots.js", "target.css"))
    palette = re.findall(r'(\w+): "(#\w+)"', re.search(r"palette = {(.*?)}", script)[1])
    other = re.findall(r'"(#\w+)"', re.search(r"other = \[(.*?)\]", script)[1])
    shapes = dict(re.findall(r'(\w+): "(\w+)"', re.search(r"shapeOf = {(.*?)}", script)[1]))
    assert {name: shapes[name] for name in filter_marks.SHAPES} == filter_marks.SHAPES
    assert set(shapes) == {*filter_marks.SHAPES, "seeing"}
    assert len(other) == filter_marks.N_OTHERS
    in_sheet = dict(re.findall(r"\.filter-([\w-]+) { --mark: (\S+); }", sheet))
    assert in_sheet == {**dict(palette), "z": "var(--ink)", **{f"other-{i}": colour for i, colour in enumerate(other)}}


@pytest.mark.parametrize(
    ("name", "band"),
    [
        ("Sg", "g"),
        ("zr", "r"),
        ("ztfi", "i"),
        ("ip", "i"),
        ("z", "z"),
        ("lp600", "lp600"),
        ("Kepler", "Kepler"),
        ("", ""),
    ],
)
def test_bands_of_filters(name: str, band: str) -> None:
    assert filter_marks.band(name) == band


def test_what_has_no_image_has_no_close_up(star, as_user, archive) -> None:
    ana = as_user("ana")
    assert ana.get(f"/observation/{archive.failed}/close-up.png").status_code == 404
    damaged = ana.get(f"/observation/{archive.own}/close-up.png")
    assert damaged.status_code == 422, "the toy product is no image"
    star.toy.store.observations.set_fields(archive.failed, {"coordinates": None})
    page = ana.get("/target/GJ 436").text
    assert "1 epoch in 1 night" in page
    assert "data-blink" not in page


def test_epochs_are_chosen(star, as_user) -> None:
    page = as_user("admin").get(f"/target/HIP_55203?epoch={star.ids[2]}&epoch={star.ids[0]}&half=0.5").text
    stage = page.split('class="blink-stage"')[1].split("</section>")[0]
    assert [name in stage for name in star.ids] == [True, False, True]
    assert "half=0.5" in stage


def test_names_lead_to_the_target(star, as_user) -> None:
    ana = as_user("ana")
    assert 'href="/target/HIP_55203"' in ana.get(f"/observation/{star.ids[0]}").text
    assert 'href="/target/HIP_55203"' in ana.get("/search?name=hip").text
