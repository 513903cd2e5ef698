"""Catalogues in the forms in which services, programs and people write them: right in degrees, or refused by name."""

import base64
import gzip
import io
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.table import QTable, Table
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from obsarchive.errors import ArchiveError, ConfigError
from obsarchive.remote.star_catalogs import read_catalog
from surveys.catalog import Catalog
from surveys.formats.catalog_columns import names_of_places

NAMES = ["Sirius", "alf Cen", "Vega"]
RA = np.array([101.2871553, 219.9020833, 279.2347348])
DEC = np.array([-16.7161159, -60.8339926, 38.7836889])


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def sky(ra_unit: str = "deg", dec_unit: str = "deg", names: tuple[str, str] = ("RA", "DEC")) -> Table:
    angle = u.hourangle if ra_unit == "h" else u.Unit(ra_unit)
    table = Table({"id": NAMES, names[0]: (RA * u.deg).to_value(angle), names[1]: (DEC * u.deg).to_value(dec_unit)})
    table[names[0]].unit, table[names[1]].unit = ra_unit, dec_unit
    return table


def read(name: str, content: str | bytes, **kwargs) -> Catalog:
    Path(name).write_bytes(content if isinstance(content, bytes) else content.encode())
    found = Catalog(name, **kwargs)
    found.load()
    return found


def assert_right(found: Catalog, atol: float = 1e-9) -> None:
    ra, dec = found.places()
    assert_allclose(ra, RA[: len(ra)], rtol=0, atol=atol)
    assert_allclose(dec, DEC[: len(dec)], rtol=0, atol=atol)


# ---------------------------------------------------------------------------------------------------- units

FORMATS = {
    "t.fits": {},
    "t.vot": {"format": "votable"},
    "b.vot": {"format": "votable", "tabledata_format": "binary"},
    "b2.xml": {"format": "votable", "tabledata_format": "binary2"},
    "t.ecsv": {},
    "t.csv": {"format": "ascii.ecsv", "delimiter": ","},
    "t.h5": {"path": "deep/stars", "serialize_meta": True},
    "t.parquet": {},
    "t.tbl": {"format": "ascii.ipac"},
    "T.ECSV": {"format": "ascii.ecsv"},
}
UNITS = [("deg", "deg"), ("h", "deg"), ("rad", "rad"), ("arcsec", "arcmin"), ("mas", "mas")]


@pytest.mark.parametrize(("name", "options"), FORMATS.items())
@pytest.mark.parametrize("units", UNITS)
def test_declared_units_are_converted(name, options, units):
    sky(*units).write(name, **options)
    found = Catalog(name)
    assert found.names == NAMES
    assert_right(found)
    order = np.argsort(RA)
    stars = read_catalog(Path(name))
    assert_allclose(np.sort(stars.ra), RA[order], rtol=0, atol=1e-9)


angles = st.tuples(st.floats(0, 359.999), st.floats(-90, 90))


@settings(max_examples=40, deadline=None)
@given(st.lists(angles, min_size=1, max_size=4), st.sampled_from(list(FORMATS)), st.sampled_from(UNITS))
def test_the_same_sky_in_any_unit_and_format(tmp_path_factory, positions, name, units):
    ra, dec = np.array(positions).T
    angle = u.hourangle if units[0] == "h" else u.Unit(units[0])
    table = Table({"ra": (ra * u.deg).to_value(angle), "dec": (dec * u.deg).to_value(units[1])})
    table["id"] = np.arange(len(ra))
    table["ra"].unit, table["dec"].unit = units
    path = tmp_path_factory.getbasetemp() / name
    table.write(path, overwrite=True, **FORMATS[name])
    found = Catalog(str(path)).places()
    assert_allclose(found[0], ra, rtol=0, atol=1e-9)
    assert_allclose(found[1], dec, rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    ("names", "scale"),
    [
        (("ra_h", "dec_deg"), (15, 1)),
        (("ra_hours", "Dec (deg)"), (15, 1)),
        (("RA_rad", "DEC_rad"), (np.degrees(1), np.degrees(1))),
        (("RArad", "DErad"), (np.degrees(1), np.degrees(1))),
        (("RA [hours]", "Dec"), (15, 1)),
        (("raj2000_h", "dej2000"), (15, 1)),
        (("coord_ra", "coord_dec"), (1, 1)),
        (("ALPHA_J2000", "DELTA_J2000"), (1, 1)),
        (("RAdeg", "DEdeg"), (1, 1)),
        (("RAJ2000", "DEJ2000"), (1, 1)),
    ],
)
def test_units_in_names(names, scale, caplog):
    lines = [
        f"{name},1.5,2.5,{float(a / scale[0])},{float(d / scale[1])}" for name, a, d in zip(NAMES, RA, DEC, strict=True)
    ]
    found = read("t.csv", f"name,RA1950,DE1950,{names[0]},{names[1]}\n" + "\n".join(lines))
    assert_right(found)
    assert not caplog.records


def test_sexagesimal_columns_that_say_so_in_their_names():
    assert_right(
        read("t.csv", "name,raj2000 'h:m:s',dej2000 'd:m:s'\nSirius,06:45:08.917272,-16:42:58.01724\n"), atol=1e-8
    )


@pytest.mark.parametrize(
    ("ra_unit", "dec_unit", "words"),
    [
        ("mag", "deg", "column 'RA': expected a unit of angle for ra .*found 'mag'"),
        ("deg", "h", "column 'DEC': expected a unit of angle for dec .*found 'h'"),
        ("pix", "pix", ".*found 'pix'"),
        ("furlongs", "deg", ".*found 'furlongs'"),
        ("s", "deg", ".*found 's'"),
    ],
)
def test_a_unit_that_is_no_angle_is_refused_by_name(ra_unit, dec_unit, words):
    table = sky()
    table["RA"].unit, table["DEC"].unit = (u.Unit(unit, parse_strict="silent") for unit in (ra_unit, dec_unit))
    table.write("t.ecsv")
    with pytest.raises(ConfigError, match=rf"t\.ecsv: {words}"):
        Catalog("t.ecsv").load()
    with pytest.raises(ArchiveError, match=words):
        read_catalog(Path("t.ecsv"))


def test_motions_parallaxes_and_magnitudes_have_units_too(caplog):
    table = sky()
    table["pmRA"], table["pmDE"] = [0.1, 0.2, 0.3] * u.arcsec / u.yr, [1e-7, 2e-7, 0] * u.deg / u.yr
    table["Plx"], table["Vmag"], table["e_Gmag"] = [0.379, 0.7, 0.13] * u.arcsec, [9000.0] * 3 * u.mmag, [10.0] * 3
    table["e_Gmag"].unit = u.Jy
    table.write("t.fits")
    row = Catalog("t.fits").get_row("alf Cen")
    assert [row[key] for key in ("pmra", "pmdec", "parallax", "mag")] == pytest.approx([200.0, 0.72, 700.0, 9.0])
    assert row["mag_err"] is None
    assert "column 'e_Gmag': expected mag_err in units such as mag, found 'Jy'; it is not used" in caplog.text
    with pytest.raises(ConfigError, match="'e_Gmag'"):
        Catalog("t.fits", mag_err_column="e_Gmag").load()
    stars = read_catalog(Path("t.fits"))
    assert sorted(stars.pm_ra) == pytest.approx([100.0, 200.0, 300.0])


def test_bare_hours_are_a_warning_once(caplog):
    found = read("t.csv", "name,ra,dec\na,6.75,20\nb,23.9,-20\n")
    for i in range(2):
        assert found.get_row(i)["ra"] == [6.75, 23.9][i]
    [record] = caplog.records
    assert "t.csv: all right ascensions are below 24: hours? They are taken for degrees" in record.getMessage()
    caplog.clear()
    read("t.csv", "name,ra,dec\na,1.75,0.3\nb,6.2,-1.5\n")
    assert "radians?" in caplog.text
    caplog.clear()
    read_catalog(Path("t.csv"))
    assert "radians?" in caplog.text
    caplog.clear()
    read("t.csv", "name,ra_deg,dec\na,6.75,20\n")
    read("t.csv", "name,ra,dec\na,6.75,20\nb,24.1,-20\n")
    assert not caplog.records


def test_positions_that_cannot_be_are_refused_by_row_and_name(caplog):
    for rows, words in (
        ("a,10,5\nb,400,-3\nc,nan,7", "found in 1 of 2 rows others: row 2 (b): 400 -3"),
        ("a,10,5\nb,40,95", "row 2 (b): 40 +95"),
        ("a,-200,5", "row 1 (a): -200 +5"),
    ):
        with pytest.raises(ConfigError) as failure:
            read("t.csv", f"name,ra,dec\n{rows}\n")
        assert words in str(failure.value)
        assert "t.csv" in str(failure.value)
        with pytest.raises(ArchiveError, match="row "):
            read_catalog(Path("t.csv"))
    assert "1 rows without a name or position are skipped: row 3 (c)" in caplog.text
    assert read("t.csv", "name,ra,dec\na,10,5\nb,400,-3\n", where="ra <= 360").names == ["a"]
    assert read("t.csv", "name,ra,dec\na,-10,5\nb,100,3\n").get_row("a")["ra"] == 350.0


# ---------------------------------------------------------------------------------------------------- usual files

VIZIER = """#
#   VizieR Astronomical Server vizier.cds.unistra.fr
#Column	RAJ2000	(F10.6)	(ra) Right ascension (J2000)	[ucd=pos.eq.ra;meta.main]

RAJ2000	DEJ2000	2MASS	Jmag
deg	deg	 	mag
----------	----------	-----------------	------
101.287155	-16.716116	06450891-1642576	-1.391
219.902083	-60.833993	14393650-6050023	-1.454
279.234735	 38.783689	18365633+3847012	{nothing}

""".replace("{nothing}", "      ")
SEXAGESIMAL = """#Column	RAJ2000	(a11)	Right ascension
RAJ2000	DEJ2000	Name	Vmag
"h:m:s"	"d:m:s"	 	mag
-----------	-----------	---------	------
06 45 08.92	-16 42 58.0	Sirius	-1.46
14 39 36.50	-60 50 02.3	alf Cen	-0.01
18 36 56.34	+38 47 01.3	Vega	 0.03
"""


def test_tables_of_vizier():
    found = read("vizier.tsv", VIZIER, name_column="2MASS")
    assert found.names[0] == "06450891-1642576"
    assert_right(found, 1e-6)
    assert found.get_row(2)["mag"] is None
    assert_right(read("sexagesimal.tsv", SEXAGESIMAL), 1e-4)
    several = read("several.tsv", VIZIER + "#RESOURCE=yCat_1\n#Table\tI_1\nA\tB\n \t \n-\t-\n1\t2\n")
    assert len(several) == 3


def votable(rows: str, fields: str = "") -> str:
    return f"""<?xml version="1.0" encoding="UTF-8"?>
<VOTABLE version="1.4" xmlns="http://www.ivoa.net/xml/VOTable/v1.3"><RESOURCE><TABLE>
<FIELD name="ID" datatype="int"/><FIELD name="RA_ICRS" datatype="double" unit="deg"/>
<FIELD name="DE_ICRS" datatype="double" unit="deg"/><FIELD name="Nobs" datatype="short"><VALUES null="-32768"/></FIELD>
<FIELD name="Gmag" datatype="float" unit="mag"/>{fields}
<DATA><TABLEDATA>{rows}</TABLEDATA></DATA></TABLE></RESOURCE></VOTABLE>"""


def test_positions_of_another_system_are_not_taken_for_icrs(caplog):
    row = f"<TR><TD>1</TD><TD>{RA[0]}</TD><TD>{DEC[0]}</TD><TD/><TD/><TD>1</TD><TD>2</TD></TR>"
    older = '<FIELD name="RA" ref="B" datatype="double" unit="deg"/><FIELD name="DE" ref="B" datatype="double"/>'
    text = votable(row, older).replace("<RESOURCE>", '<RESOURCE><COOSYS ID="B" system="eq_FK4" equinox="B1950"/>')
    assert_right(read("t.vot", text))
    assert "t.vot: columns RA, DE are not read: positions of {'eq_FK4'}" in caplog.text


@pytest.mark.parametrize("odd", ["NULL", "null", "", "n/a", "12:", "-32768", "1.5"])
def test_one_odd_value_does_not_cost_the_votable(odd):
    cells = [
        ["1", RA[0], DEC[0], 12, 8.5],
        [4267180339403392769, RA[1], DEC[1], odd, "NULL"],
        [3, RA[2], DEC[2], "", ""],
    ]
    rows = "".join("<TR>" + "".join(f"<TD>{value}</TD>" for value in row) + "</TR>" for row in cells)
    found = read("t.vot", votable(rows).replace('"ID" datatype="int"', '"ID" datatype="long"'))
    assert_right(found)
    assert found.names == ["1", "4267180339403392769", "3"]
    assert [row["mag"] for row in found] == [8.5, None, None]
    if odd in ("NULL", "", "-32768"):
        assert [found.get_row(i, output="raw")["Nobs"] for i in range(3)] == [12, None, None]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (votable("").partition("<DATA>")[0] + "<DATA><FITS><STREAM encoding='base64'>{}</STREAM></FITS></DATA></TABLE>"
         "</RESOURCE></VOTABLE>", "found FITS inside it, which is not read"),
        ('<VOTABLE version="1.4"><RESOURCE type="results"><INFO name="QUERY_STATUS" value="ERROR">No such table</INFO>'
         "</RESOURCE></VOTABLE>", "an error of the service: No such table"),
    ],
)  # fmt: skip
def test_votables_without_rows_say_why(content, words):
    stream = io.BytesIO()
    fits.BinTableHDU(sky()).writeto(stream)
    with pytest.raises(ConfigError, match=words) as failure:
        read("t.vot", content.replace("{}", base64.b64encode(stream.getvalue()).decode()))
    assert "fetch it again" not in str(failure.value)


ROWS = "Sirius,101.2871553,-16.7161159\nalf Cen,219.9020833,-60.8339926\nVega,279.2347348,38.7836889\n"


ALIGNED = """Name     RA           Dec
         deg          deg
-------- ------------ ------------
Sirius   101.2871553  -16.7161159
alf Cen  219.9020833  -60.8339926
Vega     279.2347348   38.7836889
"""
EXTRACTOR = """#   1 NUMBER       Running object number
#   2 ALPHA_J2000  Right ascension [deg]
#   3 DELTA_J2000  Declination [deg]
  1 101.2871553 -16.7161159
  2 219.9020833 -60.8339926
"""


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("latin1.csv", ("Name,RA,Dec,Remark\n" + ROWS.replace("\n", ",Größe\n")).encode("latin-1")),
        ("utf16.csv", ("Name,RA,Dec\n" + ROWS).encode("utf-16")),
        ("packed.csv", gzip.compress(("Name,RA,Dec\n" + ROWS).encode())),
        ("not_packed.csv.gz", "Name,RA,Dec\n" + ROWS),
        ("minus.csv", ("Name,RA,Dec\n" + ROWS).replace("-", "\N{MINUS SIGN}")),
        ("spaces.csv", ("Name,RA,Dec\n" + ROWS).replace(",", ", ")),
        ("windows.CSV", ("Name,RA,Dec\n" + ROWS).replace("\n", "\r\n")),
        ("mac.csv", ("Name,RA,Dec\n" + ROWS).replace("\n", "\r")),
        ("trailing.csv", "Name,RA,Dec\n" + ROWS.replace("\n", ",\n")),
        ("some_trailing.csv", "Name,RA,Dec\n" + ROWS.replace("\n", ",,\n", 1)),
        ("both_trailing.csv", ("Name,RA,Dec\n" + ROWS).replace("\n", ",\n")),
        ("comments.csv", "#\nName,RA,Dec\n" + ROWS.replace("\n", "\n# more, of, these, here\n", 1) + "#END#\n"),
        ("semicolons.csv", ("Name,RA,Dec\n" + ROWS).replace(",", ";")),
        ("units.csv", "Name,RA,Dec\n,deg,deg\n" + ROWS),
        ("bars.txt", ("Name,RA,Dec\n" + ROWS).replace(",", " | ")),
        ("commented.dat", ("# Name RA Dec\n" + ROWS).replace("alf Cen", "alfCen").replace(",", "  ")),
        ("commented.csv", "# Name, RA, Dec\n" + ROWS),
        ("blanks.txt", ("Name RA Dec\n" + ROWS).replace("alf Cen", '"alf Cen"').replace(",", "   ")),
        ("aligned.txt", ALIGNED),
        ("is_votable.csv", votable(f"<TR><TD>1</TD><TD>{RA[0]}</TD><TD>{DEC[0]}</TD><TD/><TD/></TR>")),
        ("extractor.cat", EXTRACTOR),
        ("parts.csv", "Name,RAh,RAm,RAs,DE-,DEd,DEm,DEs\nSirius,6,45,8.917272,-,16,42,58.01724\n"),
    ],
)  # fmt: skip
def test_text_as_people_and_programs_write_it(name, content):
    found = read(name, content)
    assert_right(found, 1e-8)
    assert_allclose(read_catalog(Path(name)).ra, found.places()[0], rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("name;ra;dec\na;101,5;-3,2\n", "expected numbers with a decimal point, found 101,5"),
        ("name,ra,dec\na,101,5,-3,2\n", "row 1: Expected 3 columns, got 5.*numbers need decimal points"),
        ("name,ra,dec\na,101.5,-3.2\nb,7.5\n", "row 2: Expected 3 columns, got 2"),
        ("", "the file is empty"),
        ("\n \n", "the file is empty"),
        (ROWS, r"a line with names of columns, found \['Sirius'"),
        ("name,ra,dec\na,064508.92,-164258.0\n", "row 1 .a.: 64508.9"),
        ("<!DOCTYPE html>\n<html>busy</html>", "a web page"),
        ("name,RA1950,DE1950\na,1,2\n", "no column with ra.*other equinoxes are not converted"),
        ("name,x,y\na,1,2\n", "no column with ra: set ra_column; there are name, x, y"),
    ],
)
def test_refusals_say_what_is_wrong_and_never_to_fetch_again(content, words):
    with pytest.raises(ConfigError, match=words) as failure:
        read("t.csv", content)
    assert "t.csv" in str(failure.value)
    assert "fetch it again" not in str(failure.value)


def test_a_table_without_rows_is_told(caplog):
    assert len(read("t.csv", "name,ra,dec\n")) == 0
    assert "no source is left of 0 rows" in caplog.text


def ldac() -> fits.HDUList:
    header = fits.BinTableHDU(Table({"Field Header Card": [b"SIMPLE  = T"]}), name="LDAC_IMHEAD")
    objects = fits.BinTableHDU(sky(names=("ALPHA_J2000", "DELTA_J2000")), name="LDAC_OBJECTS")
    return fits.HDUList([fits.PrimaryHDU(), header, objects])


def test_tables_of_a_file_may_be_named(caplog):
    ldac().writeto("ldac.fits")
    shutil.copy("ldac.fits", "objects.ldac")
    for name, table in (
        ("ldac.fits", None),
        ("objects.ldac", None),
        ("ldac.fits[2]", None),
        ("ldac.fits", "ldac_objects"),
    ):
        found = Catalog(name, table=table)
        assert found.names == NAMES
        assert_right(found)
    assert not caplog.records
    with pytest.raises(ConfigError, match=r"no column with ra.*named as ldac.fits"):
        Catalog("ldac.fits[1]").load()
    with pytest.raises(ConfigError, match="expected a table 7, found 1 LDAC_IMHEAD, 2 LDAC_OBJECTS"):
        Catalog("ldac.fits", table=7).load()
    with pytest.raises(ConfigError, match="no name of a table"):
        read("t.csv", "name,ra,dec\na,1,2\n", table="x")
    second = Table({"name": ["z"], "ra": [200.0], "dec": [0.0]})
    fits.HDUList([fits.PrimaryHDU(), fits.BinTableHDU(sky()), fits.BinTableHDU(second)]).writeto("two.fits")
    assert Catalog("two.fits").names == NAMES
    assert "two.fits has several tables (1, 2): 1 is read; name another as two.fits[NUMBER]" in caplog.text
    assert Catalog("two.fits[2]").names == ["z"]
    assert read_catalog(Path("two.fits[2]")).ra.tolist() == [200.0]
    sky().write("s.h5", path="a", serialize_meta=True)
    second.write("s.h5", path="b", append=True)
    assert Catalog("s.h5[b]").names == ["z"]


@pytest.mark.skipif(shutil.which("source-extractor") is None, reason="no source-extractor")
def test_catalogues_of_sextractor():
    rng = np.random.default_rng(3)
    data = rng.normal(100, 3, (80, 80))
    data[39:42, 19:22] += 900
    data[19:22, 59:62] += 500
    header = fits.Header({"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRPIX1": 40.5, "CRPIX2": 40.5, "CRVAL1": 101.0})
    header.update({"CRVAL2": 20.0, "CDELT1": -1e-4, "CDELT2": 1e-4, "CUNIT1": "deg", "CUNIT2": "deg"})
    fits.writeto("i.fits", data.astype(np.float32), header)
    Path("p").write_text("NUMBER\nX_IMAGE\nY_IMAGE\nALPHA_J2000\nDELTA_J2000\nMAG_AUTO\nMAGERR_AUTO\n")
    for kind, name in (("FITS_LDAC", "o.cat"), ("ASCII_HEAD", "a.cat"), ("FITS_1.0", "f.fits")):
        words = [
            "-CATALOG_TYPE",
            kind,
            "-CATALOG_NAME",
            name,
            "-PARAMETERS_NAME",
            "p",
            "-FILTER",
            "N",
            "-DETECT_THRESH",
            "20",
        ]
        subprocess.run(
            ["source-extractor", "i.fits", *words, "-VERBOSE_TYPE", "QUIET"], check=True, capture_output=True
        )
        found = Catalog(name)
        assert len(found) == 2
        nearest = found.get_nearest_row(101.0 + 20e-4 / np.cos(np.radians(20)), 20.0, radius=1)
        assert nearest["name"].startswith("J0644")
        assert nearest["mag"] < -9


# ---------------------------------------------------------------------------------------------------- names


def test_names_are_made_of_positions():
    found = read("t.csv", "ra,dec\n101.28715,-16.71611\n279.23475,38.78369\n0,0\n,5\n")
    assert found.names == ["J064508.91-164257.9", "J183656.34+384701.2", "J000000.00+000000.0"]
    edges = names_of_places(np.array([359.9999999, 360.0, np.nan, 15.0]), np.array([-0.00001, 90.0, 1.0, -89.9999999]))
    assert edges.tolist() == ["J235959.99-000000.0", "J000000.00+900000.0", "", "J010000.00-895959.9"]


def test_names_that_belong_to_several_stars_are_told(caplog):
    assert read("t.csv", "id,ra,dec\n1,10,5\n1,10.0001,5\n1,200,5\n").names == ["1"]
    assert "2 names occur again and are skipped" in caplog.text
    assert "1 of them are elsewhere, as row 3 (1): if names are not unique, set name_column" in caplog.text


# ---------------------------------------------------------------------------------------------------- in memory


@pytest.mark.parametrize(
    "made",
    [
        lambda: Catalog(sky("h", "rad")),
        lambda: Catalog(QTable({"name": NAMES, "sky": SkyCoord(RA, DEC, unit="deg")})),
        lambda: Catalog(pd.DataFrame({"name": NAMES, "ra": RA, "dec": DEC})),
        lambda: Catalog(pd.DataFrame({"ra": RA, "dec": DEC}, index=pd.Index(NAMES, name="name"))),
        lambda: Catalog(SkyCoord(RA, DEC, unit="deg").galactic, names=NAMES),
        lambda: Catalog([{"name": n, "ra": a, "dec": d} for n, a, d in zip(NAMES, RA, DEC, strict=True)]),
        lambda: Catalog({"name": NAMES, "ra": RA.tolist(), "dec": DEC * u.deg}),
    ],
)
def test_catalogues_of_objects(made):
    found = made()
    assert found.names == NAMES
    assert_right(found)
    assert found.path is None
    found.write(Path("kept.parquet"))
    kept = Catalog("kept.parquet")
    assert kept.cat_hash == found.cat_hash
    assert_right(kept)


def test_what_is_no_catalogue_is_refused():
    with pytest.raises(ConfigError, match=r"Table, DataFrame, SkyCoord.*found int"):
        Catalog(5)
    with pytest.raises(ConfigError, match="expected 3 names, found 1"):
        Catalog(sky(), names=["x"])


def test_a_catalogue_is_a_sequence():
    found = Catalog(SkyCoord(RA, DEC, unit="deg"))
    assert found.names[0] == "J064508.91-164258.0"
    table = sky()
    table["colour"], table["pmRA"], table["pmDE"] = [0.5, np.nan, 1.0], [1.0] * 3, [2.0] * 3
    found = Catalog(table)
    assert [row["name"] for row in found] == NAMES
    assert (found[1], found["Vega"], found[-1]) == (found.get_row(1), found.get_row(2), found.get_row(2))
    for part in (
        found[1:],
        found[[False, True, True]],
        found[np.array([1, 2])],
        found[["alf Cen", "Vega"]],
        Catalog(found)[1:],
    ):
        assert isinstance(part, Catalog)
        assert part.names == NAMES[1:]
    assert len(found[[]]) == len(found[3:]) == 0
    assert found[pd.Series([True, False, False], index=[7, 8, 9])].names == NAMES[:1]
    for wrong, error in ((3, IndexError), ("nobody", KeyError), ([True], IndexError)):
        with pytest.raises(error):
            found[wrong]
    made = found.to_table()
    assert made.colnames[:3] == ["name", "ra", "dec"]
    assert (made["ra"].unit, made["pmra"].unit) == (u.deg, u.mas / u.yr)
    assert made["colour"].mask.tolist() == [False, True, False]
    assert found.to_pandas()["dec"].tolist() == DEC.tolist()
    assert found.to_skycoord().separation(SkyCoord(RA, DEC, unit="deg")).max() < 1 * u.mas
    assert repr(found) == "<Catalog <Table>: 3 sources>"
    assert repr(Catalog("nothing.csv")).endswith("nothing.csv: not read yet>")
    assert "alf Cen" in found._repr_html_()


# ---------------------------------------------------------------------------------------------------- pages of services

SIMBAD = """C.D.S.  -  SIMBAD4 rel 1.8  -  2026.03.14CET21:30:00

Number of objects : 3

#|    identifier    |typ|     coord1 (ICRS,J2000/2000)     |Mag V |
-|------------------|---|----------------------------------|------|
1|* alf CMa         |SB*|06 45 08.91728 -16 42 58.0171     |-1.46 |
2|* alf Cen         |** |No Coord.                         |      |
3|* alf Lyr         |dS*|18 36 56.33635 +38 47 01.2802     | 0.03 |
================================================================================
"""
NED = """Source list created by NED; 2 objects found

No.|Object Name|RA(deg)|DEC(deg)|Type
1|Sirius|101.2871553|-16.7161159|*
2|alf Cen|219.9020833|-60.8339926|*
"""


def test_pages_of_simbad_and_ned(caplog):
    found = read("simbad.txt", SIMBAD)
    assert_allclose(found.places(), [[101.2871553, 279.2347348], [-16.7161159, 38.7836889]], atol=1e-5)
    assert list(found.names) == ["* alf CMa", "* alf Lyr"]
    assert "row 2 (* alf Cen)" in caplog.text
    assert_right(read("ned.txt", NED))
    assert_right(read("ned.tsv", NED.replace("|", "\t")))


@pytest.mark.parametrize(
    "text",
    ["06:45:08.917 -16:42:58.02", "06 45 08.917 -16 42 58.02", "101.2871542,-16.716117", "6h45m8.917s, -16d42m58.02s"],
)
def test_a_column_of_both_coordinates(text):
    found = read("t.tsv", f"id\tcoords\n7\t{text}\n")
    assert_allclose(found.places(), [[101.28715], [-16.71612]], atol=1e-5)
    with pytest.raises(ConfigError, match="no column with ra"):
        read("g.tsv", "id\tcoord (Gal)\n7\t227.2 -8.9\n")


def test_words_of_no_position_do_not_cost_the_catalogue(caplog):
    found = read("t.csv", "name,ra_mas,dec_mas\nA,364633759.08,-60178017.24\nB,INDEF,...\n")
    assert_allclose(found.places(), [[RA[0]], [DEC[0]]], atol=1e-9)
    assert "row 2 (B)" in caplog.text


def test_names_keep_their_zeros_and_magnitudes_that_are_none_are_missing(tmp_path: Path) -> None:
    path = tmp_path / "stars.csv"
    path.write_text("name,ra,dec,mag,field\n74260,100.5,1,99.99,01\n007,100.6,2,17,02\n08,100.7,3,-999,03\n")
    catalog = Catalog(filename=str(path))
    catalog.load()
    assert catalog.names == ["74260", "007", "08"]
    assert [catalog.get_row(i)["mag"] for i in range(3)] == [None, 17.0, None]
    assert Catalog(filename=str(path), where="mag > 16 and field == 2").names == ["007"]
