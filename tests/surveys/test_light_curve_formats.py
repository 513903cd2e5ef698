"""Light curves as well-known services and programs write them: one small file of each layout, and what it means."""

import errno
from unittest import mock

import numpy as np
import pandas as pd
import pytest
from astropy import units as u
from astropy.table import QTable, Table
from astropy.time import Time
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

import surveys
from obsarchive.cli.main import surveys as run_command
from obsarchive.errors import ConfigError, DiskTrouble, Unprocessable
from surveys.analysis import Analysis
from surveys.dataset import RawPhotometry
from surveys.formats.light_curve_files import read_raw_light_curve
from surveys.formats.photometry_columns import standard_photometry
from surveys.formats.photometry_formats import FORMATS, PhotometryFormat, register
from surveys.observatory import VirtualObservatory
from surveys.observatory.files import VirtualFiles
from surveys.source import Source

MJD = 58000.25 + np.arange(6.0)
JD = MJD + 2400000.5


def read(tmp_path, text, name="star.txt", format=None, **facts):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return surveys.read_light_curve(path, format, **facts)


ATLAS_COLUMNS = "###MJD m dm uJy duJy F err chi/N RA Dec x y maj min phi apfit mag5sig Sky Obs"
ATLAS_REST = "1.05 161.19738 53.66524 356.28 1198.43 2.32 2.12 0.0 -0.200 19.2 21.1 01a58000o0001o"
ATLAS = f"""{ATLAS_COLUMNS}
58000.250000  16.000 0.010  1445    13 o  0  {ATLAS_REST}
58001.250000 -20.000 0.500   -36    20 c  0  {ATLAS_REST}
58002.250000  16.000 0.010  1445    13 o  1  {ATLAS_REST}
"""


def test_atlas(tmp_path):
    """Magnitudes are negative where fluxes are; err is a flag, not an error."""
    found = read(tmp_path, ATLAS)
    assert found.attrs["format"] == "atlas"
    assert found.attrs["remarks"] == []
    assert_array_equal(found["mjd"], MJD[:3])
    assert_array_equal(found["flux"], [1445, -36, 1445])
    assert_array_equal(found["flux_err"], [13, 20, 13])
    assert_allclose(found["mag"], [16.0, np.nan, 16.0], atol=0.01)
    assert found["flag"].tolist() == [False, False, True]
    assert found["filter"].tolist() == ["o", "c", "o"]
    assert found["ra"].iloc[0] == 161.19738


ASASSN = """HJD,UT Date,Camera,FWHM,Limit,mag,mag_err,flux(mJy),flux_err,Filter
2458000.47009,2017-09-03.9710173,be,1.77,15.518,14.839,0.117,4.210,0.477,V
2458000.47137,2017-09-03.9722892,be,1.76,15.730,14.760,0.090,4.528,0.392,V
2458001.47263,2017-09-04.9735547,be,1.72,15.751,>15.751,99.990,0.312,0.350,g
"""


def test_asassn_of_the_first_sky_patrol(tmp_path):
    found = read(tmp_path, ASASSN, ra=150.0, dec=20.0)
    assert found.attrs["format"] == "asassn"
    assert_allclose(found["flux"], [4210, 4528, 312])
    assert_allclose(found["mag"], [14.839, 14.760, np.nan])
    assert_allclose(found["mag_err"], [0.117, 0.090, np.nan])
    assert found["flag"].tolist() == [False, False, True]
    assert "1 of 3 epochs are limits" in found.attrs["remarks"][0]
    assert found["filter"].tolist() == ["V", "V", "g"]
    # heliocentric: eight minutes at most
    assert_allclose(found["mjd"], np.array([2458000.47009, 2458000.47137, 2458001.47263]) - 2400000.5, atol=0.006)
    assert found["mjd"][0] - 57999.97009 == pytest.approx(0.0055, abs=5e-4)


def asassn2(n=120):
    """The rows of the case: an outburst of two magnitudes, and three bad epochs."""
    rng = np.random.default_rng(3)
    jd = np.sort(2458000 + rng.uniform(0, 200, n))
    mag = 14.0 + rng.normal(0, 0.03, n)
    mag[(jd > 2458100) & (jd < 2458112)] -= 2
    quality = np.array(["G"] * n)
    quality[[i for i in (5, 50, 90) if i < n]] = "B"
    flux = 3631e3 * 10 ** (-0.4 * mag)
    columns = {"JD": jd, "Flux": flux, "Flux Error": 0.03 * flux, "Mag": mag, "Mag Error": np.full(n, 0.03)}
    columns |= {"Limit": np.full(n, 17.0), "FWHM": np.full(n, 1.8), "Filter": np.array(["g"] * n), "Quality": quality}
    return columns | {"Camera": np.array(["bA"] * n)}


def searched(columns, altdata=None):
    """What a run does with a source: its light curves and their events."""
    facts = {"name": "star", "ra": 150.1, "dec": 20.0, **(altdata or {})}
    curves = VirtualObservatory("TABLE").reduce(RawPhotometry(columns, facts, observatory="TABLE"), gap=0)
    source = Source("star", 150.1, 20.0)
    source.lightcurves = curves
    analysis = Analysis(num_injections=0)
    analysis.analyze_source(source, "RUN", "")
    return curves, source.detections


def test_asassn_of_the_second_sky_patrol_as_a_table():
    """Quality is G or B; fluxes are in mJy, which no name tells."""
    (curve,), events = searched(asassn2())
    data = curve.data
    assert int(data.flag.sum()) == 3
    assert_allclose(data.flux, 3631e6 * 10 ** (-0.4 * data.mag), rtol=2e-3)
    assert float(data.flux.median()) == pytest.approx(9150, rel=0.01)
    (event,) = events
    assert 58099.5 < event.mjd_peak < 58111.5


def test_asassn_by_pyasassn():
    raw = asassn2(20)
    names = {
        "JD": "jd",
        "Flux": "flux",
        "Flux Error": "flux_err",
        "Mag": "mag",
        "Mag Error": "mag_err",
        "Limit": "limit",
    }
    names |= {"FWHM": "fwhm", "Filter": "phot_filter", "Quality": "quality", "Camera": "camera"}
    raw = {names[name]: values for name, values in raw.items()} | {"asas_sn_id": np.full(20, 7)}
    raw["mag_err"][4] = 99.99
    found = standard_photometry(raw, {})
    assert_allclose(found["flux"], 1e3 * raw["flux"])
    assert found["filter"].tolist() == ["g"] * 20
    assert np.isnan(found["mag"]).tolist() == (raw["mag_err"] > 90).tolist()
    assert np.flatnonzero(found["flag"]).tolist() == [4, 5]


def aavso(n=120, date="JD", sep=",", head="NAME"):
    rng = np.random.default_rng(3)
    jd = np.sort(2458000 + rng.uniform(0, 200, n))
    mag = 14.0 + rng.normal(0, 0.03, n)
    mag[(jd > 2458100) & (jd < 2458112)] -= 2
    delimiter = {",": ",", "\t": "tab", ";": ";"}[sep]
    lines = ["#TYPE=EXTENDED", "#OBSCODE=TST", "#SOFTWARE=none", f"#DELIM={delimiter}", f"#DATE={date}", "#OBSTYPE=CCD"]
    names = f"{head},DATE,MAG,MERR,FILT,TRANS,MTYPE,CNAME,CMAG,KNAME,KMAG,AMASS,GROUP,CHART,NOTES"
    lines += [names.replace(",", sep)]
    rest = ["NO", "STD", "000-AAA-001", "15.1", "000-AAA-002", "16.2", "1.2", "na", "X1", "na"]
    times = Time(jd, format="jd").strftime("%m/%d/%Y %H:%M:%S") if date == "EXCEL" else [f"{day:.5f}" for day in jd]
    lines += [sep.join(["TT XXX", when, f"{m:.3f}", "0.030", "V", *rest]) for when, m in zip(times, mag, strict=True)]
    return "\n".join(lines) + "\n", jd


@pytest.mark.parametrize("head", ["NAME", "#NAME"])
@pytest.mark.parametrize("sep", [",", "\t", ";"])
@pytest.mark.parametrize("date", ["JD", "HJD", "EXCEL"])
def test_aavso_extended(tmp_path, date, sep, head):
    text, jd = aavso(10, date, sep, head)
    found = read(tmp_path, text)
    assert found.attrs["format"] == "aavso_extended"
    assert_allclose(found["mjd"], jd - 2400000.5, atol=2e-5)
    assert_allclose(found["mag_err"], 0.03)
    assert found["filter"].tolist() == ["V"] * 10


def test_aavso_extended_as_a_table():
    """A column DATE of Julian dates, whose header was lost."""
    text, _ = aavso()
    rows = [line.split(",") for line in text.splitlines() if line[0] != "#"]
    table = pd.DataFrame(rows[1:], columns=rows[0])
    table[["DATE", "MAG", "MERR"]] = table[["DATE", "MAG", "MERR"]].astype(float)
    (curve,), events = searched(table)
    assert_allclose([curve.data.mjd.min(), curve.data.mjd.max()], [57999.80, 58194.19], atol=0.01)
    assert_allclose(curve.data.mag_err, 0.03, rtol=1e-6)
    (event,) = events
    assert 58099.5 < event.mjd_start < event.mjd_peak < event.mjd_stop < 58111.5


def test_aavso_without_a_line_of_names(tmp_path):
    text, jd = aavso(10)
    found = read(tmp_path, "\n".join(line for line in text.splitlines() if not line.startswith("NAME")))
    assert_allclose(found["mag_err"], 0.03)
    assert_allclose(found["mjd"], jd - 2400000.5, atol=1e-5)
    visual = "#TYPE=VISUAL\n#OBSCODE=TST\n#DELIM=,\n#DATE=JD\nSS CYG,2458000.75,<11.0,na,110,120,070613,note\n"
    found = read(tmp_path, visual + "SS CYG,2458001.75,10.9,na,110,120,070613,note\n")
    assert found.attrs["format"] == "aavso_visual"
    assert_allclose(found["mag"], [np.nan, 10.9])
    assert found["flag"].tolist() == [True, False]
    assert found["filter"].tolist() == ["Vis.", "Vis."]


def test_tables_of_vizier(tmp_path):
    text = "#RESOURCE=x\n#Column HJD\nMJD\tFlux\te_Flux\nd\tmJy\tuJy\n-----\t-----\t-----\n58000.25\t 9.1\t300\n"
    found = read(tmp_path, text, "a.tsv")
    assert_allclose(found[["mjd", "flux", "flux_err"]], [[58000.25, 9100, 300]])


def test_epochs_that_are_all_limits_have_no_magnitude(tmp_path):
    rows = [line for line in ASASSN.splitlines() if ">" in line or line.startswith("HJD")]
    found = read(tmp_path, "\n".join(rows))
    assert found["flag"].tolist() == [True]
    assert np.isnan(found["mag"]).all()


def test_limits_of_aavso(tmp_path):
    text, _ = aavso(5)
    lines = text.splitlines()
    lines[7] = lines[7].replace(lines[7].split(",")[2], "<16.5", 1).replace("0.030", "na").replace("STD", "DIF")
    found = read(tmp_path, "\n".join(lines))
    assert found["flag"].tolist() == [True] + [False] * 4
    assert np.isnan(found["mag"][0])
    assert any("limits" in remark for remark in found.attrs["remarks"])
    assert any("differential" in remark for remark in found.attrs["remarks"])


def test_aavso_download(tmp_path):
    head = (
        "JD,Magnitude,Uncertainty,HQuncertainty,Band,Observer Code,Comment Code(s),Comp Star 1,Comp Star 2,Charts,"
        "Comments,Transfomed,Airmass,Validation Flag,Cmag,Kmag,HJD,Star Name,Observer Affiliation,Measurement Method"
    )
    rest = "AAA,,A,B,X1,,0,1.2,{flag},,,,SS CYG,AAVSO,STD"
    rows = [
        f"{day},{mag},{err},,Vis.,{rest.format(flag=flag)}"
        for day, mag, err, flag in [
            (2458000.75, "12.1", "", "Z"),
            (2458001.75, "<13.0", "", "V"),
            (2458002.75, "8.5", "0.02", "T"),
        ]
    ]
    found = read(tmp_path, "\n".join([head, *rows]), "aavsodata.csv")
    assert found.attrs["format"] == "aavso_download"
    assert_allclose(found["mjd"], MJD[:3])
    assert_allclose(found["mag"], [12.1, np.nan, 8.5])
    assert_allclose(found["mag_err"], [np.nan, np.nan, 0.02])
    assert found["flag"].tolist() == [False, True, True]
    assert found["filter"].tolist() == ["Vis."] * 3


def test_ztf_forced_photometry(tmp_path):
    names = (
        "index, field, ccdid, qid, filter, pid, infobitssci, sciinpseeing, scibckgnd, scisigpix, zpmaginpsci, "
        "zpmaginpsciunc, zpmaginpscirms, clrcoeff, clrcoeffunc, ncalmatches, exptime, adpctdif1, adpctdif2, "
        "diffmaglim, zpdiff, programid, jd, rfid, forcediffimflux, forcediffimfluxunc, forcediffimsnr, "
        "forcediffimchisq, forcediffimfluxap, "
        "forcediffimfluxuncap, forcediffimsnrap, aperturecorr, dnearestrefsrc, nearestrefmag, nearestrefmagunc, "
        "nearestrefchi, nearestrefsharp, refjdstart, refjdend, procstatus"
    )
    row = (
        "{i} 600 12 2 ZTF_{band} 123 {bits} 2.1 230.1 8.2 26.2 0.01 0.02 -0.05 0.001 300 30.0 0.5 0.6 20.5 {zp} 1 "
        "{jd:.7f} 600120215 {flux} 20.0 10.0 1.0 210.0 25.0 8.0 1.0 0.5 18.2 0.02 0.5 0.01 2458000.1 2458100.2 {status}"
    )
    rows = [
        row.format(i=0, band="g", bits=0, zp=26.2, jd=JD[0], flux=200.0, status="0"),
        row.format(i=1, band="r", bits=0, zp=25.2, jd=JD[1], flux=-200.0, status="57"),
        row.format(i=2, band="r", bits=33554432, zp=26.2, jd=JD[2], flux=200.0, status="0"),
        row.format(i=3, band="i", bits=0, zp=26.2, jd=JD[3], flux="null", status="56,61"),
    ]
    found = read(
        tmp_path, "\n".join(["# Requested input R.A. = 1.0 degrees", "#", names, *rows]), "forcedphotometry_lc.txt"
    )
    assert found.attrs["format"] == "ztf_forced"
    assert_allclose(found["mjd"], MJD[:4])
    assert_allclose(
        found["flux"], [200 * 10 ** (0.4 * -2.3), -200 * 10 ** (0.4 * -1.3), 200 * 10 ** (0.4 * -2.3), np.nan]
    )
    assert_allclose(found["flux_err"][0] / found["flux"][0], 0.1)
    assert_allclose(found["mag"][0], 26.2 - 2.5 * np.log10(200))
    assert found["flag"].tolist() == [False, False, True, True]
    assert found["filter"].tolist() == ["g", "r", "r", "i"]
    assert_array_equal(found["exptime"], 30)


def test_ztf_light_curves(tmp_path):
    head = "oid,expid,hjd,mjd,mag,magerr,catflags,filtercode,ra,dec,chi,sharp"
    rows = [f"7,{i},{JD[i] + 0.003},{MJD[i]},18.5,0.02,{flag},zg,10.0,20.0,1,0" for i, flag in enumerate([0, 32768])]
    found = read(tmp_path, "\n".join([head, *rows]), "lc.csv")
    assert found.attrs["format"] == "ztf"
    assert_array_equal(found["mjd"], MJD[:2])
    assert found["flag"].tolist() == [False, True]


@pytest.mark.parametrize("kind", ["csv", "votable", "table"])
def test_gaia_epoch_photometry(tmp_path, kind):
    """Barycentric days since 2010 in TCB; electrons a second with a zero point for each band."""
    bjd_tdb = Time(MJD[:3], format="mjd", scale="utc").tcb.jd
    table = Table({
        "source_id": [1, 1, 1], "transit_id": [5, 5, 5], "band": ["G", "BP", "RP"], "time": bjd_tdb - 2455197.5,
        "mag": 25.6873668671 - 2.5 * np.log10([1e4, 1e4, 1e4]) + np.array([0, -0.35, -0.94]),
        "flux": [1e4, 1e4, 1e4], "flux_error": [50.0, 50.0, 100.0], "flux_over_error": [200.0, 200, 100],
        "rejected_by_photometry": [False, False, True], "rejected_by_variability": [False] * 3,
    })  # fmt: skip
    if kind == "table":
        table["flux"].unit, table["time"].unit = "electron/s", "d"
        observatory = VirtualObservatory("GAIA")
        observatory.fetch_data_from_observatory = lambda row, **_: (table, {})
        raw = observatory.download({"name": "x", "ra": 10.0, "dec": 20.0})
        found = pd.DataFrame(standard_photometry(raw.columns, {**raw.altdata, "ra": None}))
    else:
        path = tmp_path / ("g.csv" if kind == "csv" else "g.vot")
        table.write(path, format="ascii.csv" if kind == "csv" else "votable")
        found = surveys.read_light_curve(path)
    assert_allclose(found["mjd"], bjd_tdb - 2400000.5, atol=1e-6)
    assert_allclose(found["flux"][0], 1e4 * 10 ** (0.4 * (23.9 - 25.8010446445)), rtol=1e-6)
    assert_allclose(found["mag"][0], 15.687, atol=0.001)
    assert_allclose(found["mag_err"], 1.0857 / np.array([200, 200, 100]), rtol=1e-3)
    assert found["flag"].tolist() == [False, False, True]
    assert found["filter"].tolist() == ["G", "BP", "RP"]


def test_pan_starrs_detections(tmp_path):
    rows = (
        "objID,detectID,filterID,obsTime,ra,dec,psfFlux,psfFluxErr,psfQfPerfect,infoFlag,infoFlag2,infoFlag3\n"
        + "\n".join(
            f"190,7,{band},{MJD[i]},10.0,20.0,{flux},{err},{q},102760517,128,7"
            for i, (band, flux, err, q) in enumerate(
                [(1, 3.631e-4, 1e-6, 0.99), (2, 3.631e-4, 1e-6, 0.5), (5, -999.0, -999.0, 0.99)]
            )
        )
    )
    found = read(tmp_path, rows, "d.csv")
    assert found.attrs["format"] == "panstarrs"
    assert_allclose(found["flux"], [363.1, 363.1, np.nan])
    assert_allclose(found["mag"][:2], 17.5, atol=0.001)
    assert found["filter"].tolist() == ["g", "r", "y"]
    assert found["flag"].tolist() == [False, True, False]
    assert_allclose(found["mjd"], MJD[:3])


def test_lsst_times_are_tai():
    raw = {
        "midpointMjdTai": MJD,
        "psfFlux": np.full(6, 363.1e3),
        "psfFluxErr": np.full(6, 1e3),
        "band": np.array(["g"] * 6),
    }
    found = standard_photometry(raw, {})
    assert_allclose(found["mjd"], Time(MJD, format="mjd", scale="tai").utc.mjd, rtol=0, atol=1e-9)
    assert_allclose(found["flux"], 363.1)


@pytest.mark.parametrize("name", ["phot.dat", "star.dat"])
@pytest.mark.parametrize("base", [0, 2450000])
def test_ogle(tmp_path, name, base):
    text = "\n".join(f"{day - base:.5f} 18.{i}00 0.05{i} 5.1 800.0" for i, day in enumerate(JD))
    found = read(tmp_path, text, name, None if name == "phot.dat" else "ogle", filter="I")
    assert_allclose(found["mjd"], MJD, atol=1e-5)
    assert_allclose(found["mag"], 18 + np.arange(6) / 10)
    assert_allclose(found["mag_err"][1], 0.051)
    assert found["filter"].tolist() == ["I"] * 6


@pytest.mark.parametrize(
    "head",
    [
        "",
        "# HJD  Delta_flux  flux_err  mag  mag_err  fwhm  sky  secz\n",
        "<HJD> <Delta_flux> <flux_err> <mag> <mag_err> <fwhm> <sky> <secz>\n",
    ],
)
def test_kmtnet(tmp_path, head):
    text = head + "\n".join(
        f"{day - 2450000:.5f} -120.5 30.1 18.{i} 0.0{i + 1} 3.1 900.0 1.2" for i, day in enumerate(JD)
    )
    found = read(tmp_path, text, "KMTC01_I.pysis")
    assert_allclose(found["mjd"], MJD, atol=1e-5)
    assert_allclose(found["mag"], 18 + np.arange(6) / 10)
    assert_allclose(found["mag_err"], 0.01 * np.arange(1, 7))


def test_three_columns_of_kmtnet(tmp_path):
    found = read(tmp_path, "7439.83551 18.733 0.1026\n7439.87381 18.740 0.0774\n", "KCT01I.dat", "kmtnet")
    assert_allclose(found["mag_err"], [0.1026, 0.0774])
    assert_allclose(found["mjd"], [57439.33551, 57439.37381])


def test_moa_needs_a_zero_point(tmp_path):
    text = "\n".join(f"{day:.5f} {120.5 + i} 30.1 17 extra" for i, day in enumerate(JD))
    with pytest.raises(Unprocessable, match=r"star.txt: fluxes .* are in adu.*set zero_point"):
        read(tmp_path, text, format="moa")
    found = read(tmp_path, text, format="moa", zero_point=27.4)
    assert_allclose(found["flux"], (120.5 + np.arange(6)) * 10 ** (0.4 * (23.9 - 27.4)))
    assert_allclose(found["flux_err"], 30.1 * 10 ** (0.4 * (23.9 - 27.4)))
    named = read(tmp_path, "# JD  delta_flux  err\n2458000.5 100 10\n", format="moa", zero_point=23.9)
    assert_allclose(named[["flux", "flux_err"]], [[100, 10]])


def test_exoplanet_archive(tmp_path):
    head = r"""\STAR_ID                              = "MOA 2008-BLG-310L"
\RA                                   = "17h54m14.53s"
\RA_UNITS                             = "sexagesimal"
\DEC                                  = "-34d46m40.99s"
\TIME_REFERENCE_FRAME                 = "Heliocentric JD"
\TIME_SERIES_DATA_FILTER              = "R"
|              JD| RELATIVE_MAGNITUDE| MAGNITUDE_UNCERTAINTY| RELATIVE_FLUX| FLUX_UNCERTAINTY|
|            real|               real|                  real|          real|             real|
|            days|                mag|                   mag|              |                 |
  2454656.0258500             15.251                 0.013
  2454656.0294600             15.256                 0.013
"""
    found = read(tmp_path, head, "Auck.tbl")
    assert found.attrs["format"] == "exoplanet_archive"
    assert_allclose(found["mag"], [15.251, 15.256])
    assert_allclose(found["mag_err"], 0.013)
    assert found["filter"].tolist() == ["R", "R"]
    assert_allclose(found["mjd"], np.array([54655.52585, 54655.52946]), atol=0.006)


# ------------------------------------------------------------------------------------------ units, bands, limits

UNITS = [
    "Jy",
    "10-29W/m2/Hz",
    "W.m-2.Hz-1",
    "mJy",
    "uJy",
    "nJy",
    "erg/(s cm2 Hz)",
    "1e-29 W/(m2 Hz)",
    "nmgy",
    "nMgy",
    "nanomaggies",
    "microJy",
]


@given(st.sampled_from(UNITS), st.floats(-5, 6), st.sampled_from(["table", "name", "facts"]))
def test_any_declared_unit_gives_the_same_flux(unit, exponent, how):
    microjansky = 10.0**exponent
    ab = u.uJy
    factor = 3.631 if unit.lower().startswith("n") and "j" not in unit.lower() else None
    value = microjansky / factor if factor else (microjansky * ab).to_value(UNIT_OF.get(unit, unit))
    raw = {"mjd": MJD, "flux": np.full(6, value), "flux_err": np.full(6, value / 10)}
    altdata = {}
    if how == "facts":
        altdata = {"units": {"flux": unit}}
    elif how == "table":
        altdata = {"units": {"flux": unit, "flux_err": unit}}
    else:
        raw = {"mjd": MJD, f"flux({unit})" if "(" not in unit else "flux": raw["flux"], "flux_err": raw["flux_err"]}
        altdata = {"units": {"flux": unit}} if "(" in unit else {}
    found = standard_photometry(raw, altdata)
    assert_allclose(found["flux"], microjansky, rtol=1e-6)
    assert_allclose(found["flux_err"], microjansky / 10, rtol=1e-6)
    assert_allclose(found["mag"], 23.9 - 2.5 * exponent, atol=1e-5)


UNIT_OF = {"microJy": "uJy", "10-29W/m2/Hz": "1e-29 W/(m2 Hz)", "W.m-2.Hz-1": "W/(m2 Hz)"}


@pytest.mark.parametrize("name", ["flux_mJy", "flux [mJy]", "Flux (mJy)", "mJy"])
def test_units_in_names(name):
    raw = {"mjd": MJD, name: np.full(6, 9.0)}
    found = standard_photometry(raw, {})
    assert_allclose(found["flux"], 9000)


def test_quantities_and_times_of_astropy():
    observatory = VirtualObservatory("MINE")
    table = QTable(
        {
            "time": Time(JD, format="jd", scale="tdb"),
            "flux": np.full(6, 2.0) * u.mJy,
            "mag_err": np.full(6, 30.0) * u.mmag,
        }
    )
    table["mag"] = np.full(6, 15.65) * u.mag
    observatory.fetch_data_from_observatory = lambda row, **_: (table, {})
    raw = observatory.download({"name": "x", "ra": 10.0, "dec": 20.0})
    found = standard_photometry(raw.columns, raw.altdata)
    assert_allclose(found["flux"], 2000)
    assert_allclose(found["mag_err"], 0.03)
    assert_allclose(found["mjd"], MJD - 69.184 / 86400, atol=1e-6)


@pytest.mark.parametrize("factor", [1e-3, 1e-6, 1e3, 1 / 3.631, 1.7e4])
def test_fluxes_without_a_unit_follow_the_magnitudes(factor):
    """A factor of 1000 between flux and magnitude of a row does not pass."""
    mag = 15 + np.arange(6) / 10
    flux = 10 ** (0.4 * (23.9 - mag))
    remarks = []
    found = standard_photometry({"mjd": MJD, "mag": mag, "flux": flux * factor}, {}, remarks=remarks)
    assert_allclose(found["flux"], flux, rtol=0.001)
    assert "have no unit" in remarks[0]


def test_declared_fluxes_that_contradict_magnitudes_are_noted():
    remarks = []
    raw = {"mjd": MJD, "mag": np.full(6, 15.0), "flux": np.full(6, 3.63)}
    found = standard_photometry(raw, {"units": {"flux": "uJy"}}, remarks=remarks)
    assert_allclose(found["flux"], 3.63)
    assert "a factor of 1e+03" in remarks[0]


@pytest.mark.parametrize(
    ("unit", "words"),
    [
        ("electron/s", "are in electron/s: no flux density"),
        ("ct/s", "set zero_point"),
        ("qwerty", "unit 'qwerty' of column 'flux' is not understood"),
        ("erg/(s cm2 Angstrom)", "flux density per wavelength"),
    ],
)
def test_units_that_nothing_calibrates_are_refused(unit, words):
    with pytest.raises(Unprocessable, match=words):
        standard_photometry({"mjd": MJD, "flux": np.full(6, 3.0)}, {"units": {"flux": unit}})


@pytest.mark.parametrize(
    ("mag", "error", "band"),
    [
        ("V", "e_V", "V"),
        ("Vmag", "e_Vmag", "V"),
        ("Imag", "e_Imag", "I"),
        ("gmag", "gmag_err", "g"),
        ("I", "err", "I"),
        ("mag_r", "magerr_r", "r"),
        ("Ksmag", "e_Ksmag", "Ks"),
        ("B", "Berr", "B"),
        ("V mag", "sigmag", "V"),
        ("psfMag_g", "psfMagErr_g", "g"),
    ],
)
def test_magnitudes_named_after_filters(mag, error, band):
    found = standard_photometry({"HJD": JD, mag: np.full(6, 14.0), error: np.full(6, 0.02)}, {})
    assert_array_equal(found["mag"], 14)
    assert_array_equal(found["mag_err"], 0.02)
    assert found["filter"].tolist() == [band] * 6


def test_several_filters_in_columns():
    raw = {"JD": JD, "B": np.full(6, 15.0), "e_B": np.full(6, 0.1), "V": np.full(6, 14.0), "e_V": np.full(6, 0.2)}
    found = standard_photometry(raw, {})
    assert len(found["mjd"]) == 12
    for band, mag, err in (("B", 15, 0.1), ("V", 14, 0.2)):
        own = found["filter"] == band
        assert_array_equal(found["mag"][own], mag)
        assert_array_equal(found["mag_err"][own], err)
        assert_array_equal(found["mjd"][own], MJD)


@pytest.mark.parametrize(
    "error",
    ["MERR", "Uncertainty", "dm", "e_mag", "mag_err", "magerr", "sigmag", "err", "error", "Mag Error", "e_Mag", "dmag"],
)
def test_errors_of_magnitudes_by_their_usual_names(error):
    found = standard_photometry({"JD": JD, "mag": np.full(6, 14.0), error: np.full(6, 0.02)}, {})
    assert_array_equal(found["mag_err"], 0.02)


@pytest.mark.parametrize(
    "error", ["flux_err", "duJy", "fluxerr", "e_flux", "flux_error", "err", "dflux", "Flux Error", "uncertainty"]
)
def test_errors_of_fluxes_by_their_usual_names(error):
    found = standard_photometry({"JD": JD, "flux": np.full(6, 14.0), error: np.full(6, 2.0)}, {})
    assert_array_equal(found["flux_err"], 2)


def test_what_was_not_measured():
    raw = {
        "JD": JD,
        "mag": np.array([14.0, 0.0, 14.2, 99.99, 14.1, 14.3]),
        "err": np.array([0.1, 0.1, -1.0, 9.9, 99.9, 0.2]),
    }
    found = standard_photometry(raw, {})
    assert_allclose(found["mag"], [14, np.nan, 14.2, np.nan, 14.1, 14.3])
    assert_allclose(found["mag_err"], [0.1, np.nan, np.nan, np.nan, np.nan, 0.2])
    differential = standard_photometry({"JD": JD, "mag": np.array([0.1, 0.0, -0.1, 0.2, 0.0, 0.1])}, {})
    assert np.isfinite(differential["mag"]).all()


# -------------------------------------------------------------------------------------------- times and quality


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("DATE", JD),
        ("Date", MJD),
        ("date-obs", JD.astype(str)),
        ("DATE", np.floor(MJD) - 58000 + 20170904.0 + 0.25),
        ("HJD-2450000", JD - 2450000),
        ("BTJD", JD - 2457000),
        ("BKJD", JD - 2454833),
        ("RJD", JD - 2400000),
        ("JD_UTC", JD),
        ("J.D.-2400000", JD - 2400000),
        ("hmjd", MJD),
        ("MHJD", MJD),
        ("mjd_obs", MJD),
        ("MJD (days)", MJD),
        ("time", (MJD - 40587) * 86400e3),
        ("time", ((MJD - 40587) * 86400).astype("i8") * 10**9),
        ("timestamp", ((MJD - 40587) * 86400).astype("i8") * 10**9),
        ("UT Date", np.array([f"2017-09-0{4 + i}.25" for i in range(6)])),
    ],
)
def test_times_by_name_and_value(name, values):
    found = standard_photometry({name: values, "mag": np.full(6, 14.0)}, {})
    assert_allclose(found["mjd"], MJD, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "scale"), [("BJD_TDB", "tdb"), ("JD_TT", "tt"), ("mjd_tai", "tai"), ("MJD_TDB", "tdb"), ("mjd_tcb", "tcb")]
)
def test_scales_in_names(name, scale):
    values = MJD if name.lower().startswith("m") else JD
    found = standard_photometry({name: values, "mag": np.full(6, 14.0)}, {})
    expected = MJD if "BJD" in name else Time(MJD, format="mjd", scale=scale).utc.mjd
    assert_allclose(found["mjd"], expected, rtol=0, atol=5e-8)


@pytest.mark.parametrize(
    "pattern", ["%m/%d/%Y %H:%M:%S", "%d/%m/%Y %H:%M:%S", "%d.%m.%Y %H:%M:%S", "%m/%d/%Y %I:%M:%S %p"]
)
def test_dates_whose_order_only_the_days_tell(pattern):
    mjd = MJD + 12
    found = standard_photometry({"date": Time(mjd, format="mjd").strftime(pattern), "mag": np.full(6, 14.0)}, {})
    assert_allclose(found["mjd"], mjd)


def test_units_tell_times():
    for unit in ("BJD - 2457000, days", "BJD - 2457000 (TDB)"):
        found = standard_photometry({"TIME": JD - 2457000, "mag": np.full(6, 14.0)}, {"units": {"TIME": unit}})
        assert_allclose(found["mjd"], MJD, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "values", "words"),
    [
        ("date", np.zeros(6), "times make no sense"),
        ("date", np.full(6, "1970-01-01"), "times make no sense: years 1970"),
        ("mjd", JD, "times make no sense: .* look like JD"),
        ("JD", MJD, "times make no sense: .* look like MJD .time_scale: mjd"),
        ("HJD", JD - 2450000, "times make no sense: .*days may be missing; set time_offset"),
        ("date", np.full(6, 43252.5), "spreadsheet"),
        ("date", np.full(6, "06/07/2018"), "day or the month"),
        ("date", np.full(6, "yesterday"), "are no dates"),
    ],
)
def test_times_that_make_no_sense_are_refused(name, values, words):
    with pytest.raises(Unprocessable, match=words):
        standard_photometry({name: values, "mag": np.full(6, 14.0)}, {})


def test_single_times_that_make_no_sense_are_noted():
    remarks = []
    found = standard_photometry(
        {"jd": np.where(np.arange(6) == 2, 9999999.0, JD), "mag": np.full(6, 14.0)}, {}, remarks=remarks
    )
    assert len(found["mjd"]) == 5
    assert "1 of 6 times in 'jd' make no sense" in remarks[0]


@pytest.mark.parametrize(
    ("name", "values", "flagged"),
    [
        ("quality", ["G", "B", "G", "G", "G", "B"], [1, 5]),
        ("quality", ["good", "bad", "good", "Good", "GOOD", "bad"], [1, 5]),
        ("flag", ["False", "True", "False", "False", "False", "True"], [1, 5]),
        ("flag", ["PASS", "FAIL", "PASS", "pass", "-", "FAIL"], [1, 5]),
        ("flag", ["", "X", "", "OK", "", "saturated"], [1, 5]),
        ("good", [True, False, True, True, True, False], [1, 5]),
        ("is_good", ["True", "False", "yes", "1", "T", "0"], [1, 5]),
        ("valid", [1, 0, 1, 1, 1, 0], [1, 5]),
        ("quality", [0, 4, 0, 0, 0, 4096], [1, 5]),
        ("is_bad", [False, True, False, False, False, True], [1, 5]),
    ],
)
def test_quality_in_words(name, values, flagged):
    found = standard_photometry({"jd": JD, "mag": np.full(6, 14.0), name: np.array(values)}, {})
    assert np.flatnonzero(found["flag"]).tolist() == flagged


def test_units_of_positions_and_exposures():
    raw = {
        "mjd": MJD,
        "mag": np.full(6, 14.0),
        "ra": np.full(6, np.pi),
        "dec": np.full(6, 0.1),
        "exptime": np.full(6, 0.5),
    }
    units = {"ra": "rad", "dec": "rad", "exptime": "min", "mag": "---"}
    found = standard_photometry(raw, {"units": units})
    assert_allclose([found["ra"][0], found["dec"][0], found["exptime"][0]], [180, np.degrees(0.1), 30])
    assert_allclose(standard_photometry({**raw, "ra": np.full(6, 12.0)}, {"units": {"ra": "hourangle"}})["ra"], 180)
    with pytest.raises(Unprocessable, match="column 'ra': expected a unit such as deg, found 'mJy'"):
        standard_photometry(raw, {"units": {"ra": "mJy"}})


def test_zero_points_of_rows_and_the_catalogue():
    flux, zp = np.full(6, 100.0), np.where(np.arange(6) % 2, 25.0, 27.5)
    found = standard_photometry({"mjd": MJD, "flux": flux, "zp": zp, "zpsys": np.full(6, "ab")}, {})
    assert_allclose(found["mag"], zp - 5)
    remarks = []
    standard_photometry({"mjd": MJD, "flux": flux * 1e-5}, {"mag": 19.0}, remarks=remarks)
    assert "are taken as µJy: +12.4 mag from the catalogue" in remarks[0]


@pytest.mark.parametrize("column", ["mag", "flux"])
def test_text_in_place_of_numbers_is_refused(column):
    with pytest.raises(Unprocessable, match="holds '15,3': expected numbers, with a decimal point"):
        standard_photometry({"mjd": MJD, column: np.full(6, "15,3")}, {})


def test_heliocentric_times_without_a_position_are_noted():
    remarks = []
    standard_photometry({"HJD": JD, "mag": np.full(6, 14.0)}, {}, remarks=remarks)
    assert "those of the Sun and the position is unknown" in remarks[0]


def test_quality_that_is_not_understood_is_refused_by_name():
    raw = {"jd": JD, "mag": np.full(6, 14.0), "Quality": np.array(list("AAAUAA"))}
    with pytest.raises(Unprocessable, match=r"'Quality' holds 'A' \(5\), 'U' \(1\).*good_flags"):
        standard_photometry(raw, {})
    assert np.flatnonzero(standard_photometry(raw, {"good_flags": ["A"]})["flag"]).tolist() == [3]
    ones = {**raw, "Quality": np.array([1, 1, 1, 0, 1, 1])}
    with pytest.raises(Unprocessable, match="5 of 6 in column 'Quality' are 1 or true"):
        standard_photometry(ones, {})
    assert np.flatnonzero(standard_photometry(ones, {"good_flags": [1]})["flag"]).tolist() == [3]
    remarks = []
    assert standard_photometry({**raw, "Quality": np.full(6, 16)}, {}, remarks=remarks)["flag"].all()
    assert "all 6 epochs are flagged by column 'Quality', which holds '16' (6)" in remarks[0]


# ----------------------------------------------------------------------------------- files, and what is refused


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "found no rows"),
        ("7439.8 18.7 0.1\n7440.8 18.6 0.1\n", r"3 columns without names .*\(aavso_.*, kmtnet, moa, ogle\)"),
        ("JD,colour\n2458000.5,0.3\n", "it has JD, colour; brightness not found"),
        ("epoch,mag\n1,15\n", "time not found; .*columns: {time"),
        ("JD,magnitud\n2458000.5,15\n", "'magnitud'; did you mean 'magnitude'"),
        ("JD,mag\n2458000.5,15,3,4\n", "expected 2 values in a row"),
    ],
)
def test_files_that_are_refused(tmp_path, text, words):
    with pytest.raises(Unprocessable, match=words):
        read(tmp_path, text)


def test_decimal_commas_between_semicolons(tmp_path):
    found = read(tmp_path, "\ufeffMJD;mag;magerr;filter\r\n58000,5;17,1;0,02;r\r\n58001;17,25;-;r\r\n")
    assert (found["mjd"].tolist(), found["mag"].tolist()) == ([58000.5, 58001.0], [17.1, 17.25])
    assert found["mag_err"][0] == 0.02


@pytest.mark.parametrize(("name", "words"), [("mask", [0, 1, 0]), ("qflag", ["0x0", "0x4", "0x0"]), ("DQ", [0, 16, 0])])
def test_flags_of_other_names(name, words):
    found = standard_photometry({"jd": JD[:3], "mag": np.full(3, 14.0), name: np.array(words)}, {})
    assert found["flag"].tolist() == [False, True, False]


def test_few_epochs_whose_fluxes_contradict_their_magnitudes():
    remarks = []
    raw = {"jd": JD[:2], "mag": np.full(2, 14.0), "flux": np.full(2, 9.12)}
    assert standard_photometry(raw, {}, remarks=remarks)["flux"].tolist() == [9.12, 9.12]
    assert "no unit and are taken as µJy; magnitudes of 2 epochs beside them differ by -7.5 mag" in remarks[0]


def test_unknown_names(tmp_path):
    with pytest.raises(ConfigError, match="no format of light curves 'atlass'; did you mean 'atlas'"):
        read(tmp_path, ATLAS, format="atlass")
    with pytest.raises(ConfigError, match="found no such file"):
        surveys.read_light_curve(tmp_path / "none.csv")
    with pytest.raises(Unprocessable, match="no column 'brigthness'; did you mean 'brightness'"):
        read(tmp_path, "JD,brightness\n2458000.5,15\n", columns={"mag": "brigthness"})


def test_columns_that_are_named(tmp_path):
    found = read(
        tmp_path, "when,brightness\n2458000.75,15\n", columns={"time": "when", "mag": "brightness"}, time_scale="jd"
    )
    assert_array_equal(found[["mjd", "mag"]], [[58000.25, 15]])
    found = read(tmp_path, "2458000.75 15 0.1 7\n", columns=["jd", "mag", "err"])
    assert_array_equal(found[["mjd", "mag", "mag_err"]], [[58000.25, 15, 0.1]])


@pytest.mark.parametrize("suffix", ["fits", "ecsv", "vot", "parquet", "h5", "csv.gz"])
def test_other_kinds_of_files(tmp_path, suffix):
    table = Table({"jd": JD, "flux": np.full(6, 2.0), "flux_err": np.full(6, 0.1), "filter": ["r"] * 6})
    path = tmp_path / f"star.{suffix}"
    facts = {}
    if suffix == "csv.gz":
        table.to_pandas().to_csv(path, index=False)
        facts = {"units": {"flux": "mJy"}}
    else:
        table["flux"].unit = table["flux_err"].unit = "mJy"
        more = {"h5": {"path": "table", "serialize_meta": True}}.get(suffix, {})
        kinds = {"ecsv": "ascii.ecsv", "vot": "votable", "h5": "hdf5"}
        table.write(path, format=kinds.get(suffix, suffix), **more)
    found = surveys.read_light_curve(path, **facts)
    assert_allclose(found["flux"], 2000)
    assert_allclose(found["flux_err"], 100)
    assert_allclose(found["mjd"], MJD)
    assert found["filter"].tolist() == ["r"] * 6


def test_a_format_of_ones_own(tmp_path):
    with mock.patch.dict(FORMATS):
        register(PhotometryFormat("mine", "Mine", ("jd", "count"), {"flux": "count"}, {"units": {"flux": "mJy"}}))
        assert_allclose(read(tmp_path, f"JD counts\n{JD[0]} 3.0\n")["flux"], 3000)


def test_every_format_is_documented():
    from pathlib import Path

    text = (Path(__file__).parents[2] / "docs" / "surveys.md").read_text()
    assert [name for name in FORMATS if f"`{name}`" not in text] == []


# ------------------------------------------------------------------------------------------- the observatory FILES


def test_the_observatory_of_files(tmp_path):
    (tmp_path / "SN 2018_x.txt").write_text(ATLAS)
    files = VirtualFiles(folder=str(tmp_path), reducer={"gap": 0})
    raw = files.download({"name": "SN 2018/x", "ra": 161.2, "dec": 53.7})
    curves = files.reduce(raw)
    assert sorted((curve.filter, len(curve)) for curve in curves) == [("c", 1), ("o", 2)]
    assert files.download({"name": "another", "ra": 161.2, "dec": 53.7}).is_empty
    (tmp_path / "SN 2018_x.csv").write_text(ASASSN)
    with pytest.raises(
        Unprocessable, match=r"expected one file of 'SN 2018_x', found SN 2018_x.csv, SN 2018_x.txt; set 'files'"
    ):
        files.download({"name": "SN 2018/x", "ra": 161.2, "dec": 53.7})
    with pytest.raises(ConfigError, match="no folder"):
        VirtualFiles(folder=str(tmp_path / "none")).download({"name": "x", "ra": 1.0, "dec": 2.0})
    with pytest.raises(ConfigError, match="did you mean 'atlas'"):
        VirtualFiles(folder=str(tmp_path), format="atlos")


def test_raw_photometry_of_a_file_of_ones_own(tmp_path):
    (tmp_path / "star.csv").write_text(aavso(20)[0])
    raw = RawPhotometry(filename=str(tmp_path / "star.csv"), observatory="MINE")
    assert_allclose(raw.mjds.min(), 57999.8, atol=20)
    (curve,) = VirtualObservatory("MINE").reduce(raw, gap=0)
    assert curve.filter == "V"


def test_light_curves_of_a_dataset_of_this_archive(tmp_path):
    table = QTable({"time_bjd_tdb": JD * u.d, "time_hjd_utc": JD * u.d, "time_mjd_utc": MJD * u.d})
    table["flux"], table["flux_err"] = np.full(6, 100.0) * u.ct / u.s, np.full(6, 1.0) * u.ct / u.s
    table["mag"], table["mag_err"] = np.full(6, 20.0) * u.mag, np.full(6, 0.01) * u.mag
    table["limit"], table["flags"] = np.full(6, np.nan) * u.mag, [0, 32, 33, 16, 0, 0]
    table.meta = {"zero_point": 25.0}
    table.write(tmp_path / "lightcurve.ecsv")
    found = surveys.read_light_curve(tmp_path / "lightcurve.ecsv")
    assert_array_equal(found["mjd"], MJD)
    assert_allclose(found["flux"], 10 ** (0.4 * 3.9))
    assert found["flag"].tolist() == [False, False, True, True, False, False]


@pytest.mark.usefixtures("survey_store")
def test_a_project_of_files(tmp_path, survey_root, capsys):
    """From end to end: light curves in a folder, events found, and what is odd or refused is shown."""
    folder = tmp_path / "files"
    folder.mkdir()
    (folder / "nova.txt").write_text(aavso()[0])
    frame = pd.DataFrame(asassn2())
    frame.to_csv(folder / "dwarf.csv", index=False)
    frame.drop(columns="Camera").assign(Quality="A").to_csv(folder / "odd.csv", index=False)
    frame.drop(columns=["Camera", "Quality"]).to_csv(folder / "plain.csv", index=False)
    rows = [f"{name},150.{i},20.0,14" for i, name in enumerate(["nova", "dwarf", "odd", "plain", "absent"])]
    (tmp_path / "cat.csv").write_text("\n".join(["name,ra,dec,mag", *rows]))
    (tmp_path / "files.yaml").write_text(
        "project: {name: files, obs_names: [FILES]}\n"
        f"catalog: {{filename: {tmp_path / 'cat.csv'}}}\n"
        f"observatories: {{FILES: {{folder: {folder}}}}}\n"
        "analysis: {num_injections: 0}\n"
    )
    assert run_command(["run", str(tmp_path / "files.yaml")]) == 1
    told = capsys.readouterr().out
    assert "5 fetched (of which 1 empty), 5 analysed, 3 events, 1 failed" in told
    assert "  odd: quality of epochs not understood: column 'Quality' holds 'A' (120)" in told
    assert "1 remarks\n  plain: fluxes 'Flux' have no unit; beside the magnitudes they are in mJy" in told


# ------------------------------------------------------------------------------------- tables that people write


def table_of(tmp_path, text, suffix="csv"):
    path = tmp_path / f"table.{suffix}"
    path.write_text(text)
    return surveys.read_light_curve(path)


@pytest.mark.parametrize(
    "head",
    [
        "mjd,flux,flux_err\nd,mJy,mJy",
        "mjd,flux,flux_err\n,mJy,mJy",
        "MJD,flux,flux_err\ndays,[mJy],[mJy]",
        "# made by hand\n# mjd,flux,flux_err\n# d,mJy,mJy",
        "mjd,flux_mJy,flux_err_mJy",
        "mjd,flux_µJy,flux_err_µJy",
        "mjd,flux_μJy,flux_err_μJy",
    ],
)
def test_units_under_the_names(tmp_path, head):
    unit = 1e3 if "mJy" in head else 1.0
    found = table_of(tmp_path, f"{head}\n58000.5,2,0.1\n58001.5,3,0.1\n58002.5,4,0.1\n")
    assert found["mjd"].tolist() == [58000.5, 58001.5, 58002.5]
    assert_allclose(found["flux"], unit * np.array([2.0, 3.0, 4.0]))
    assert_allclose(found["flux_err"], unit * 0.1)


def test_names_that_could_be_units_are_names(tmp_path):
    found = table_of(tmp_path, "# JD mag err\n2458000.5 15.0 0.1\n2458001.5 15.5 0.1\n", "txt")
    assert found["mag"].tolist() == [15.0, 15.5]


@pytest.mark.parametrize(
    ("names", "rows"),
    [
        ("date,time", "2018-06-13,{}"),
        ("time,date", "{},2018-06-13"),
        ("DATE-OBS,UT", "2018-06-13,{}"),
        ("Date,UT", "13/06/2018,{}"),
    ],
)
def test_dates_and_times_of_day_in_two_columns(tmp_path, names, rows):
    times = ("02:57:09.125", "12:00:00", "23:30")
    text = "\n".join([f"{names},mag", *(f"{rows.format(time)},15.0" for time in times)])
    expected = 58282 + np.array([(2 * 60 + 57) * 60 + 9.125, 43200, 84600]) / 86400
    assert_allclose(table_of(tmp_path, text)["mjd"], expected, rtol=0, atol=1e-8)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("time,mag\n02:57:09,15\n03:57:09,15\n", "column 'time' holds times of day: expected one column with their"),
        (
            "date,start,stop,mag\n2018-06-13,02:57:09,02:58:09,15\n2018-06-14,02:57:09,02:58:09,15\n",
            "column 'date' holds dates: expected one column with their times of day, found 'start' and 'stop'",
        ),
        ("time (h),mag\n58000,15\n58001,15\n", "times of 'time .h.' are in h: expected days"),
        ("time [s],mag\n5000000,15\n5000001,15\n", "no seconds since 1970"),
        ("JD\tVmag\n2451081,79\t15,262\n", "write 2018-06-13T12:00:00, or numbers with decimal points"),
    ],
)
def test_what_cannot_be_known_is_refused(tmp_path, text, words):
    with pytest.raises(Unprocessable, match=words):
        table_of(tmp_path, text)


def test_days_without_times_of_day_are_midnights(tmp_path):
    text = "date,ra,dec,mag\n2018-06-13,12:30:00,10:00:00,15\n2018-06-14,12:30:00,10:00:00,15\n"
    assert table_of(tmp_path, text.replace("ra,dec,", "").replace("12:30:00,10:00:00,", ""))["mjd"].tolist() == [
        58282.0,
        58283.0,
    ]


@pytest.mark.parametrize(("suffix", "form"), [("tbl", "ascii.ipac"), ("fits", "fits"), ("ecsv", "ascii.ecsv")])
def test_tables_that_astropy_writes(tmp_path, suffix, form):
    when = Time([58000.5, 58001.5], format="mjd", scale="utc")
    table = Table({"time": [58000.5, 58001.5] * u.d if suffix == "tbl" else when.tdb})
    table["flux"], table["flux_err"] = [2.0, 3.0] * u.mJy, [0.1, 0.1] * u.mJy
    table.write(tmp_path / f"table.{suffix}", format=form)
    found = surveys.read_light_curve(tmp_path / f"table.{suffix}")
    assert_allclose(found["mjd"], when.mjd, rtol=0, atol=1e-9)
    assert_allclose(found["flux"], [2000.0, 3000.0])


def test_reference_of_times_in_the_header(tmp_path):
    table = Table({"TIME": [2000.5, 2001.5], "SAP_FLUX": [2.0, 3.0]})
    table.meta = {"BJDREFI": 2457000, "BJDREFF": 0.25}
    table.write(tmp_path / "tess.fits")
    assert surveys.read_light_curve(tmp_path / "tess.fits")["mjd"].tolist() == [59000.25, 59001.25]


def test_errors_of_the_magnitudes_that_are_used(tmp_path):
    found = table_of(
        tmp_path, "mjd,mag_auto,magerr_auto,mag_psf,magerr_psf\n58000,15,0.1,16,0.2\n58001,15,0.1,16,0.2\n"
    )
    assert found["mag"].tolist() == [16.0, 16.0]
    assert found["mag_err"].tolist() == [0.2, 0.2]


def test_values_that_are_lost_are_told(tmp_path):
    found = table_of(tmp_path, "mjd,mag\n58000,15\n58001,\n58002,15?\n58003,nan\n")
    assert found.attrs["remarks"] == ["1 of 4 values of 'mag' are no numbers, such as '15?'"]
    found = table_of(tmp_path, "mjd,mag,mag_err\n58000,99.99,99.99\n58001,99.99,9.99\n")
    assert found.attrs["remarks"] == ["none of 2 epochs has a brightness"]


def test_a_votable_that_breaks_its_standard_is_refused_by_name(tmp_path) -> None:
    path = tmp_path / "curve.vot"
    path.write_text('<VOTABLE><RESOURCE><TABLE><FIELD datatype="double"/></TABLE></RESOURCE></VOTABLE>')
    with pytest.raises(Unprocessable, match=r"curve\.vot: expected a table, found"):
        surveys.read_light_curve(path)


def test_a_disk_that_does_not_answer_is_no_damaged_file(tmp_path, monkeypatch):
    path = tmp_path / "star.fits"
    path.write_bytes(b"SIMPLE")
    monkeypatch.setattr(Table, "read", mock.Mock(side_effect=OSError(errno.EIO, "I/O error")))
    with pytest.raises(DiskTrouble, match=r"star\.fits cannot be read: I/O error"):
        read_raw_light_curve(path)
