"""Quality, events, injected events, features and periods of simulated light curves whose truth is known."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from obsarchive.errors import ConfigError, Unprocessable
from obsarchive.science.astrometry.spherical import apply_proper_motion
from obsarchive.science.light_curves.light_curve import magnitudes_of_fluxes
from surveys.analysis import Analysis, in_memory
from surveys.dataset import Lightcurve, RawPhotometry
from surveys.demo import VirtualDemoObs
from surveys.finder import Finder
from surveys.observatory import VirtualObservatory
from surveys.parameters import UnknownParameter
from surveys.periods import find_period
from surveys.quality import QualityChecker
from surveys.simulator import Simulator, efficiency, recovers
from surveys.source import Source

FLUX, ERROR = 100.0, 2.0


def light_curve(
    n: int = 200, event: float = 0.0, seed: int = 1, ra: float = 120.0, dec: float = 20.0, name: str = "S1"
) -> Lightcurve:
    """Noise around a flux, with a Gaussian of three days in the middle whose peak has an S/N of `event`."""
    rng = np.random.default_rng(seed)
    mjd = 58000 + np.arange(n) + rng.uniform(0, 0.5, n)
    flux = FLUX + ERROR * rng.normal(size=n) + event * ERROR * np.exp(-0.5 * ((mjd - mjd[n // 2]) / 3) ** 2)
    error = np.full(n, ERROR)
    mag, mag_err = magnitudes_of_fluxes(flux, error)
    # a tenth of an arcsecond to either side, on the tangent plane
    places = apply_proper_motion((np.full(n, ra), np.full(n, dec)), tuple(100 * rng.normal(size=(2, n))), 1.0)
    columns = {
        "mjd": mjd,
        "exptime": np.full(n, 30.0),
        "ra": places[0],
        "dec": places[1],
        "flux": flux,
        "flux_err": error,
        "mag": mag,
        "mag_err": mag_err,
        "flag": np.zeros(n, bool),
    }
    return Lightcurve(columns, {"name": name, "filter": "r", "series_number": 1}, observatory="TEST", project="P")


def search(curve: Lightcurve, **parameters: object) -> list:
    finder = Finder(**parameters)
    return finder.detect(finder.process(QualityChecker().check(curve)))


@pytest.mark.parametrize("strength", [8.0, 30.0, -8.0, -30.0])
def test_rises_and_dips_are_found_at_their_time_and_to_their_side(strength: float) -> None:
    curve = light_curve(event=strength)
    found = search(curve)[0]
    assert found.score * strength > 0
    assert found.mjd_peak == pytest.approx(curve.columns["mjd"][100], abs=3)
    assert found.mjd_start < curve.columns["mjd"][100] < found.mjd_stop
    # an event is the run around its peak, not every epoch that deviates somewhere
    assert found.mjd_stop - found.mjd_start < 20


def test_dips_are_left_out_when_only_rises_are_wanted() -> None:
    assert search(light_curve(event=-30), abs_snr=False) == []


def test_a_filter_finds_what_no_epoch_shows() -> None:
    curve = light_curve(event=3.6, seed=3)
    assert [found for found in search(curve, matched_filter=False) if found.method == "peak"] == []
    found = search(curve)[0]
    assert found.method == "matched filter"
    assert found.mjd_peak == pytest.approx(curve.columns["mjd"][100], abs=4)
    assert found.amplitude == pytest.approx(3.6 * ERROR, rel=0.5)
    assert 1 <= found.width_d <= 8


def test_noise_alone_has_no_events() -> None:
    assert sum(len(search(light_curve(seed=seed))) for seed in range(200)) == 0


def test_an_outlier_is_an_event_only_for_those_who_want_it() -> None:
    curve = light_curve()
    columns = {**curve.columns, "flux": np.where(np.arange(200) == 50, FLUX + 40 * ERROR, curve.columns["flux"])}
    outlier = curve.with_columns(columns)
    assert search(outlier) == []
    (found,) = search(outlier, min_epochs=1)
    assert found.mjd_start == found.mjd_peak == found.mjd_stop == columns["mjd"][50]


def test_what_is_flagged_is_no_event_and_the_flags_of_an_event_are_told() -> None:
    curve = light_curve(event=30)
    columns = curve.columns
    everything = curve.with_columns({**columns, "flag": np.abs(np.arange(200) - 100) < 15})
    assert search(everything) == []
    one = search(curve.with_columns({**columns, "flag": np.arange(200) == 100}))[0]
    assert one.quality
    assert not search(curve)[0].quality


def test_a_known_baseline_needs_no_quiet_epochs() -> None:
    curve = light_curve(40, event=0)  # all of it far above zero, and constant
    assert search(curve) == []
    found = search(curve, baseline=0.0)
    assert found[0].n_epochs >= 38  # an epoch or two lie a little off
    assert found[0].score == pytest.approx(FLUX / ERROR, rel=0.2)


def test_scores_are_positive_where_it_is_brighter() -> None:
    processed = Finder().process(light_curve(event=30))
    columns = processed.columns
    assert columns["snr"][100] == pytest.approx(30, rel=0.2)
    assert columns["dmag"][100] == pytest.approx(2.5 * np.log10(1.6), abs=0.1)
    assert processed.was_processed


@pytest.mark.parametrize(("ra", "dec"), [(120, 20), (0, 20), (359.99999, -5), (77, 89.99999), (0, -90), (180, 0)])
def test_good_places_are_good_everywhere_on_the_sky(ra: float, dec: float) -> None:
    flags = [QualityChecker().check(light_curve(400, seed=seed, ra=ra, dec=dec)).columns["qflag"] for seed in range(5)]
    assert np.mean(flags) < 0.02


def test_an_epoch_off_its_place_is_bad_and_its_place_is_kept() -> None:
    curve = light_curve(ra=0.0)
    before = {name: values.copy() for name, values in curve.columns.items()}
    before["ra"][7] = 359.9995  # 1.7 arcsec off, across 0 h
    checked = QualityChecker().check(curve.with_columns(before))
    columns = checked.columns
    assert columns["qflag"][7]
    assert columns["offset"][7] == pytest.approx(0.0005 * 3600 * np.cos(np.radians(20)), abs=0.3)
    assert np.array_equal(columns["ra"], before["ra"])
    again = QualityChecker(offset_threshold=1e9).check(checked)
    assert not again.columns["qflag"].any()


def test_places_may_be_unknown() -> None:
    columns = light_curve().columns
    nowhere = {**columns, "ra": np.full(200, np.nan), "dec": np.full(200, np.nan)}
    assert not QualityChecker().check(light_curve().with_columns(nowhere)).columns["qflag"].any()


def test_injections_are_the_same_whenever_they_are_made_and_leave_the_data_alone() -> None:
    curve = light_curve()
    before = curve.columns["flux"].copy()
    (first, truth), (second, same) = (Simulator().inject(curve, 1) for _ in range(2))
    assert truth == same
    assert np.array_equal(first.columns["flux"], second.columns["flux"])
    assert np.array_equal(curve.columns["flux"], before)
    assert Simulator().inject(curve, 2)[1] != truth
    assert Simulator(seed=5).inject(curve, 1)[1] != truth
    difference = first.columns["flux"] - before
    at = np.argmin(np.abs(curve.columns["mjd"] - truth.mjd))
    assert difference[at] * truth.amplitude > 0
    assert first.is_simulated


def test_injected_events_are_found_as_the_noise_allows() -> None:
    simulator, finder = Simulator(shapes=["gaussian"], duration_range=[2, 20], amplitude_range=[0.003, 1]), Finder()
    fates = []
    for seed in range(150):
        curve = light_curve(seed=seed, name=f"S{seed}")
        injected, truth = simulator.inject(curve, 1)
        found = finder.detect(finder.process(injected))
        fates.append((truth.expected_snr, recovers(found, truth, curve.columns["mjd"])))
    snr, recovered = (np.array(values) for values in zip(*fates, strict=True))
    assert recovered[snr > 25].mean() > 0.97
    assert recovered[snr < 3].mean() < 0.05


def test_the_efficiency_rises_with_the_amplitude() -> None:
    analysis = Analysis(num_injections=4)
    injections = []
    for seed in range(60):
        source = in_memory(Source(f"S{seed}", 120, 20, 18), [light_curve(seed=seed, name=f"S{seed}")])
        analysis.analyze_source(source, "P", "hash")
        injections += source.properties.extra["injections"]
        # found events carry what was put in; nothing real is among them
        assert all(found.simulated and found.sim_pars for found in source.detections)
        assert source.properties.n_detections == 0
    surface = efficiency(injections, n_amplitude=3, n_duration=2)
    assert surface.injected.sum() == 240
    by_amplitude = surface.recovered.sum(axis=1) / surface.injected.sum(axis=1)
    assert by_amplitude[2] > 0.9
    assert by_amplitude[0] < by_amplitude[1] <= by_amplitude[2]
    assert surface.plot("Efficiency").startswith(b"\x89PNG")
    with pytest.raises(ConfigError, match="num_injections"):
        efficiency([])


def test_a_source_without_light_curves_is_analysed_all_the_same() -> None:
    source = Analysis(period_search="lomb-scargle").analyze_source(in_memory(Source("S", 1, 2), []), "P", "hash")
    assert not source.properties.has_data
    assert source.detections == []


@given(st.integers(0, 3), st.integers(0, 10_000))
def test_any_light_curve_can_be_analysed(kind: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 30))
    curve = light_curve(max(n, 2), seed=seed)
    columns = {name: values[:n].copy() for name, values in curve.columns.items()}
    if kind == 1:
        columns["flux"][rng.random(n) < 0.7] = np.nan
    elif kind == 2:
        columns["flux_err"][:] = 0.0
        columns["flux"][:] = FLUX
    elif kind == 3:
        columns["mjd"][:] = columns["mjd"][0]
    source = in_memory(Source("S", 120, 20, 18), [curve.with_columns(columns)])
    Analysis(num_injections=1, period_search="lomb-scargle").analyze_source(source, "P", "hash")
    assert source.properties.has_data


def test_parameters_reach_the_parts() -> None:
    analysis = Analysis(snr_threshold=8.5, finder_kwargs={"min_epochs": 3}, quality_kwargs={"use_flags": False})
    assert analysis.finder.pars.snr_threshold == 8.5
    assert analysis.finder.pars.min_epochs == 3
    assert analysis.checker.pars.use_flags is False
    with pytest.raises(UnknownParameter, match="did you mean 'min_epochs'"):
        Analysis(finder_kwargs={"min_epoch": 3})
    with pytest.raises(ConfigError, match="filter_shape"):
        Finder(filter_shape="triangle")
    with pytest.raises(ConfigError, match="amplitude_range"):
        Simulator(amplitude_range=[3, 1])


def wave(period: float, n: int = 150, bands: str = "gr") -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(2)
    mjd = np.sort(58000 + rng.uniform(0, 900, n))
    band = rng.choice(list(bands), n)
    phase = 2 * np.pi * mjd / period
    mag = 15 + (band == "g") * 0.4 + 0.3 * np.sin(phase) + 0.12 * np.sin(2 * phase + 1)
    return mjd, mag + rng.normal(size=n) * 0.02, np.full(n, 0.02), band


@pytest.mark.parametrize("period", [0.31, 0.77, 13.2])
def test_a_wave_has_its_period_in_several_bands(period: float) -> None:
    found = find_period(*wave(period))
    # a hundredth of a cycle over the 900 days
    assert found.period_d == pytest.approx(period, rel=max(1e-4, 0.01 * period / 900 * 2))
    phase = np.linspace(0, 2 * np.pi, 1000)
    assert found.amplitude_mag == pytest.approx(
        np.ptp(0.3 * np.sin(phase) + 0.12 * np.sin(2 * phase + 1)) / 2, abs=0.03
    )
    assert found.false_alarm < 1e-6


def test_eclipses_have_their_period_and_depth() -> None:
    rng = np.random.default_rng(4)
    mjd = np.sort(58000 + rng.uniform(0, 60, 1500))
    mag = 15 + 0.5 * (np.abs((mjd / 2.37 + 0.5) % 1 - 0.5) < 0.02) + rng.normal(size=1500) * 0.01
    found = find_period(mjd, mag, np.full(1500, 0.01), None, (0.5, 10), "bls")
    assert found.period_d == pytest.approx(2.37, rel=1e-3)
    assert found.amplitude_mag == pytest.approx(0.5, abs=0.1)


def test_too_few_epochs_have_no_period() -> None:
    with pytest.raises(Unprocessable, match="12"):
        find_period(*(values[:11] for values in wave(0.5)))
    with pytest.raises(ConfigError, match="method"):
        find_period(*wave(0.5), method="guess")


def test_a_source_with_a_single_event_has_no_period() -> None:
    def analysed(curve: Lightcurve) -> Source:
        source = in_memory(Source("S", 120, 20, 18), [curve])
        return Analysis(period_search="lomb-scargle", num_injections=0).analyze_source(source, "P", "hash")

    event = analysed(light_curve(event=40))
    assert event.properties.n_detections == 1
    assert "period" not in event.properties.extra
    quiet = light_curve()
    flux = quiet.columns["flux"] * (1 + 0.3 * np.sin(2 * np.pi * quiet.columns["mjd"] / 6.3))
    mag, mag_err = magnitudes_of_fluxes(flux, quiet.columns["flux_err"])
    pulsating = analysed(quiet.with_columns({**quiet.columns, "flux": flux, "mag": mag, "mag_err": mag_err}))
    assert pulsating.properties.extra["period"]["period_d"] == pytest.approx(6.3, rel=0.01)


def test_raw_photometry_becomes_light_curves_by_filter_and_season() -> None:
    mjd = np.concatenate([np.arange(58000, 58010), np.arange(58100, 58110), np.arange(58000, 58005)]).astype(float)
    band = np.array(["g"] * 20 + ["r"] * 5)
    raw = RawPhotometry(
        {
            "MJD-50000": mjd - 50000,
            "mag": np.full(25, 18.0),
            "mag_err": np.full(25, 0.1),
            "filter": band,
            "catflags": mjd < 58001,
        },
        {"name": "S", "ra": 1.0, "dec": 2.0},
    )
    obs = VirtualObservatory("TEST")
    curves = obs.reduce(raw, data_type="photometry", gap=60)
    assert [(curve.filter, len(curve), curve.filekey) for curve in curves] == [
        ("g", 10, "S_reduction_01_of_03"),
        ("g", 10, "S_reduction_02_of_03"),
        ("r", 5, "S_reduction_03_of_03"),
    ]
    assert curves[0].columns["flag"].sum() == 1
    assert len(obs.reduce(raw, gap=0)) == 2
    assert [len(curve) for curve in obs.reduce(raw, to="lcs", gap=60, drop_bad=True)] == [9, 10, 4]
    with pytest.raises(ConfigError, match="did you mean 'gap'"):
        obs.reduce(raw, gab=60)
    with pytest.raises(ConfigError, match="reduce_spectra"):
        obs.reduce(raw, data_type="spectra")


def test_times_without_their_first_digits_are_told_from_dates() -> None:
    raw = RawPhotometry({"HJD": np.array([5264.8, 5265.8]), "mag": np.full(2, 18.0), "mag_err": np.full(2, 0.1)})
    with pytest.raises(Unprocessable, match="are no HJD: days may be missing; set time_offset"):
        VirtualObservatory("TEST").reduce(raw)
    raw.altdata["time_offset"] = 2_450_000
    assert VirtualObservatory("TEST").reduce(raw)[0].columns["mjd"][0] == pytest.approx(55264.3)


def test_light_curves_of_the_wrong_magnitude_or_place_are_left_out() -> None:
    obs = VirtualDemoObs()
    row = {"name": "S", "ra": 0.0, "dec": 45.0, "mag": 18.0}
    raw = obs.download(row)
    assert len(obs.reduce(raw, mag_range=0.5)) == 1
    raw.altdata["mag"] = 16.0
    assert obs.reduce(raw, mag_range=0.5) == []
    raw.altdata |= {"mag": 18.0, "ra": 359.999}
    assert obs.reduce(raw, radius=1.5) == []
    assert len(obs.reduce(raw, radius=5.0)) == 1


@pytest.mark.parametrize("unsteady_mag", [0.0, 0.08], ids=["repeats", "does not repeat"])
def test_errors_of_periods_are_true_where_bands_deviate_together(unsteady_mag: float) -> None:
    """Five bands at once of a star whose light curve is not the same in each cycle: they do not count five times."""
    pulls = []
    for seed in range(30):
        rng = np.random.default_rng(seed)
        nights = np.sort(rng.choice(2000, 60, replace=False)) + rng.uniform(0, 0.3, 60)
        mjd, band = (nights[:, np.newaxis] + 0.0008 * np.arange(5)).ravel(), np.tile(np.arange(5), 60)
        phase = 2 * np.pi * mjd / 0.561
        shape = 0.4 * np.cos(phase) + 0.15 * np.cos(2 * phase + 1) + np.repeat(rng.normal(0, unsteady_mag, 60), 5)
        mag = 15 + np.array([1, 0.9, 0.7, 0.6, 0.5])[band] * shape + rng.normal(0, 0.02, 300)
        found = find_period(mjd, mag, np.full(300, 0.02), band, (0.561 * (1 - 1e-4), 0.561 * (1 + 1e-4)))
        pulls.append((found.period_d - 0.561) / found.period_error_d)
    assert 0.75 < np.std(pulls) < 1.3
