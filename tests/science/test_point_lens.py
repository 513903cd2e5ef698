"""Point-lens fits against simulated events of known parameters, plain integrals and another program."""

import contextlib
import json
import time

import numpy as np
import pytest
from numpy.testing import assert_allclose

from obsarchive.errors import Unprocessable
from obsarchive.science.light_curves import point_lens_solver as solver
from obsarchive.science.light_curves.point_lens import Options, Photometry, fit, magnification

ZERO_POINT = 22.0
TIMES = np.sort(np.random.default_rng(5).uniform(0, 1000, 500))
ERROR = 2.0


def lens(t0: float, u0: float, t_e: float, *, source: float = 50.0, blend: float = 50.0, seed: int = 6) -> Photometry:
    """An event with constant errors."""
    light = source * magnification(np.hypot(u0, (TIMES - t0) / t_e)) + blend
    noise = np.random.default_rng(seed).normal(size=len(TIMES))
    return Photometry("I", TIMES, light + ERROR * noise, np.full(len(TIMES), ERROR), ZERO_POINT)


def changed(data: Photometry, **more: np.ndarray) -> Photometry:
    return Photometry(**{**vars(data), **more})


def part(data: Photometry, chosen: np.ndarray) -> Photometry:
    return Photometry(data.name, data.time[chosen], data.flux[chosen], data.error[chosen], data.zero_point)


# ------------------------------------------------------------------------------------------------ the model


def test_a_point_is_magnified_as_paczynski_says():
    assert magnification(np.array([1.0]))[0] == pytest.approx(3 / np.sqrt(5), rel=1e-14)
    assert magnification(np.array([-0.001]))[0] == pytest.approx(1000, rel=1e-5)
    assert magnification(np.array([100.0]))[0] == pytest.approx(1 + 2 / 100**4, rel=1e-7)


@pytest.mark.parametrize("u", [0.0, 0.004, 0.0099, 0.012, 0.03, 0.2])
def test_a_disc_is_magnified_as_the_mean_over_its_area(u):
    rho = 0.01
    middles = (np.arange(1000) + 0.5) / 1000
    place = u + rho * middles[:, None] * np.exp(2j * np.pi * middles)
    expected = np.average(magnification(np.abs(place)).mean(axis=1), weights=middles)
    assert magnification(np.array([u]), rho)[0] == pytest.approx(expected, rel=5e-3)


@pytest.mark.parametrize("parameters", [[500.3, 0.1, 8.0], [500.3, 0.02, 8.0, 0.05]])
def test_derivatives_are_those_of_differences(parameters):
    p = np.array([parameters[0], *np.log(parameters[1:])])
    _, slopes = solver._magnified(TIMES, p)
    for number, slope in enumerate(slopes):
        step = np.zeros(len(p))
        step[number] = 1e-5
        numeric = (solver._magnified(TIMES, p + step)[0] - solver._magnified(TIMES, p - step)[0]) / 2e-5
        # where the edge of a disc passes the lens the slope is not finite
        assert np.quantile(np.abs(slope - numeric), 0.99) < 0.001 * np.abs(numeric).max()


# ---------------------------------------------------------------------------------------------- single events


@pytest.mark.parametrize(
    ("t0", "u0", "t_e", "source", "blend"),
    [
        (500.0, 0.3, 20.0, 50.0, 50.0),
        (500.0, 0.3, 20.0, 120.0, -20.0),
        (311.5, 0.003, 40.0, 3.0, 90.0),
        (300.0, 0.3, 400.0, 50.0, 50.0),
        (700.0, 0.02, 8.0, 20.0, 0.0),
    ],
)
def test_an_event_is_found_and_measured(t0, u0, t_e, source, blend):
    found = fit([lens(t0, u0, t_e, source=source, blend=blend)])
    own = found.sets[0]
    for value, truth in ((found.t0, t0), (found.t_e, t_e), (found.u0, u0)):
        assert abs(value.value - truth) < 4 * value.error
    assert abs(own.source_flux - source) < 4 * own.source_flux_error
    assert abs(own.blend_flux - blend) < 4 * own.blend_flux_error
    assert found.is_adequate
    assert found.is_observed
    assert found.chi2 / found.dof == pytest.approx(1, abs=0.15)


def test_errors_are_where_chi_square_is_larger_by_one():
    data = lens(500, 0.3, 20)
    found = fit([data], Options(rescale=False, clip_sigma=0))
    series = solver.Series(data.time, data.flux, np.array([0]), np.array([len(data.time)]))
    weight = 1 / data.error

    def least(t0: float) -> float:
        start = np.array([t0, np.log(found.u0.value), np.log(found.t_e.value)])
        return solver.minimise(series, weight, start, fixed=0).chi2

    best = least(found.t0.value)
    assert best == pytest.approx(found.chi2, rel=1e-6)
    assert least(found.t0.value + found.t0.upper) - best == pytest.approx(1, abs=0.06)
    assert least(found.t0.value - found.t0.lower) - best == pytest.approx(1, abs=0.06)
    assert found.t0.error == pytest.approx(found.t0.upper, rel=0.05)
    assert found.t0.formal_error == found.t0.error
    assert_allclose(np.sqrt(np.diag(found.covariance)), [found.t0.error, found.u0.error, found.t_e.error])


def test_pulls_of_simulated_events_are_those_of_honest_errors():
    rng, pulls = np.random.default_rng(3), []
    for _ in range(200):
        truth, data = _campaign(rng)
        found = fit(data)
        if found.is_degenerate:  # then the warning says so
            continue
        logs = [(found.u0, truth[1]), (found.t_e, truth[2])]
        pulls.append(
            [
                (found.t0.value - truth[0]) / found.t0.error,
                *(np.log(value.value / true) * value.value / value.error for value, true in logs),
            ]
        )
    assert len(pulls) > 170
    rms = np.sqrt(np.mean(np.square(pulls), axis=0))
    assert (np.abs(rms - 1) < 0.1).all(), rms
    assert (np.abs(np.mean(pulls, axis=0)) < 0.2).all()


def _campaign(rng: np.random.Generator) -> tuple[tuple[float, float, float], list[Photometry]]:
    """An event as a survey of three seasons and a follow-up network in two bands see it; some errors are too small."""
    t0, u0, t_e = rng.uniform(100, 200), rng.uniform(0.01, 0.7), float(np.exp(rng.uniform(np.log(8), np.log(60))))
    survey = np.concatenate([np.arange(start, start + 200.0)[rng.random(200) < 0.7] for start in (-365, 0, 365)])
    data = []
    for name, times, depth, excess in (
        ("survey I", survey + rng.normal(0, 0.05, len(survey)), 1.0, 1.0),
        ("network i", t0 + rng.normal(0, t_e, 80), 1.0, 1.7),
        ("network g", rng.uniform(0, 200, 60), 0.5, 0.9),
    ):
        source = depth * 10 ** (-0.4 * (rng.uniform(17, 19) - ZERO_POINT))
        light = source * (magnification(np.hypot(u0, (times - t0) / t_e)) + rng.uniform(0, 2))
        error = np.sqrt((0.008 * light) ** 2 + 0.3 * np.sqrt(light))
        noise = excess * error * rng.normal(size=len(times))
        data.append(Photometry(name, times, light + noise, error, ZERO_POINT))
    return (t0, u0, t_e), data


def test_errors_that_are_too_small_are_scaled_and_both_are_told():
    data = lens(500, 0.3, 20)
    small = changed(data, error=data.error / 3)
    honest, found = fit([data], Options(rescale=False)), fit([small])
    assert found.sets[0].error_scale == pytest.approx(3, rel=0.1)
    assert found.chi2 / found.dof == pytest.approx(9, rel=0.2)
    assert found.t_e.error == pytest.approx(honest.t_e.error, rel=0.1)
    assert found.t_e.formal_error == pytest.approx(honest.t_e.error / 3, rel=0.1)
    assert any("multiplied by" in warning for warning in found.warnings)


# ------------------------------------------------------------------------------------ what does not belong to it


def test_outliers_are_rejected():
    data = lens(500, 0.3, 20)
    flux = data.flux.copy()
    flux[::25] += 300
    found, clean = fit([changed(data, flux=flux)]), fit([data])
    assert found.sets[0].n_rejected >= 20
    assert found.t_e.value == pytest.approx(clean.t_e.value, abs=2 * clean.t_e.error)


def test_the_anomaly_of_a_planet_is_rejected_and_reported():
    data = lens(500, 0.3, 40)
    times = np.sort(np.append(data.time, np.linspace(512, 514, 60)))
    light = 50 * magnification(np.hypot(0.3, (times - 500) / 40)) + 50
    bump = 15 * np.exp(-0.5 * ((times - 513) / 0.4) ** 2)
    noise = np.random.default_rng(3).normal(size=len(times))
    found = fit([Photometry("I", times, light + bump + ERROR * noise, np.full(len(times), ERROR))])
    assert abs(found.t_e.value - 40) < 3 * found.t_e.error
    assert abs(found.u0.value - 0.3) < 3 * found.u0.error
    assert not found.is_adequate
    (anomaly,) = found.anomalies
    assert 511.5 < anomaly.start < anomaly.stop < 514.5
    assert anomaly.mean_sigma > 3
    assert "deviate from a point lens" in " ".join(found.warnings)


def test_the_peak_of_an_extended_source_is_no_point():
    times = np.sort(np.append(TIMES, 500 + np.linspace(-0.6, 0.6, 200)))
    u = np.hypot(0.004, (times - 500) / 30)
    noise = np.random.default_rng(4).normal(size=len(times))
    light = 20 * magnification(u, 0.008) + 100
    error = ERROR + 0.005 * light
    found = fit([Photometry("I", times, light + error * noise, error)])
    assert found.rho is not None
    assert abs(found.rho.value - 0.008) < 4 * found.rho.error
    assert abs(found.u0.value - 0.004) < 4 * found.u0.error
    assert fit([lens(500, 0.01, 30)]).rho is None


def test_ranges_that_are_excluded_do_not_count_and_the_maximum_is_looked_for_where_it_is_said():
    first, second = lens(300, 0.3, 20), lens(700, 0.3, 20, seed=7)
    both = changed(first, flux=first.flux + second.flux - 100)
    assert fit([both], Options(within=(600, 800))).t0.value == pytest.approx(700, abs=2)
    found = fit([both], Options(exclude=((200, 400),)))
    assert found.t0.value == pytest.approx(700, abs=2)
    assert found.is_adequate


# ---------------------------------------------------------------------------------------- what says too little


@pytest.mark.parametrize("seed", range(10))
def test_noise_and_outliers_are_no_event(seed):
    rng = np.random.default_rng(seed)
    times = np.sort(rng.uniform(0, 1000, int(rng.integers(10, 1500))))
    flux = 100 + ERROR * rng.normal(size=len(times))
    flux[rng.integers(0, len(times), 3)] += rng.uniform(10, 100, 3)
    with pytest.raises(Unprocessable, match="no event"):
        fit([Photometry("I", times, flux, np.full(len(times), ERROR))])


@pytest.mark.parametrize(
    "light",
    [
        np.full(len(TIMES), 100.0),
        100 + 20 * np.sin(TIMES / 3),
        100 + 20 * np.sin(TIMES / 100),
        100 - 30 * np.exp(-0.5 * ((TIMES - 500) / 20) ** 2),
    ],
    ids=["constant", "fast variable", "slow variable", "dip"],
)
def test_other_light_curves_are_refused(light):
    noise = ERROR * np.random.default_rng(3).normal(size=len(TIMES))
    with pytest.raises(Unprocessable, match="no event"):
        fit([Photometry("I", TIMES, light + noise, np.full(len(TIMES), ERROR))])


def test_too_few_epochs_are_refused():
    data = lens(500, 0.3, 20)
    with pytest.raises(Unprocessable, match=r"found 7 in 1"):
        fit([part(data, np.arange(len(TIMES)) < 7)])
    with pytest.raises(Unprocessable, match="found 0 in 0"):
        fit([changed(data, error=np.zeros(len(TIMES)))])


def test_a_maximum_that_was_not_observed_is_told():
    data = lens(500, 0.1, 40)
    for chosen in (TIMES < 480, TIMES > 520):
        found = fit([part(data, chosen)])
        assert not found.is_observed
        assert not found.is_reliable
        assert "outside the data" in found.warnings[0]
    found = fit([part(data, np.abs(TIMES - 500) > 10)])
    assert found.is_observed
    assert "wings alone" in " ".join(found.warnings)


def test_a_low_event_tells_only_the_product_of_u0_and_t_e():
    found = fit([lens(500, 1.2, 40, source=90)])
    assert found.is_degenerate
    assert "only u0 tE" in " ".join(found.warnings)
    assert found.t_eff.error / found.t_eff.value < found.u0.error / found.u0.value / 2


def test_what_is_not_finite_or_not_sorted_does_not_matter():
    data = lens(500, 0.3, 20)
    order = np.random.default_rng(1).permutation(len(TIMES))
    flux, error = data.flux[order], data.error[order]
    more = Photometry(
        "I",
        np.append(data.time[order], [500.0, 501.0, np.nan]),
        np.append(flux, [np.nan, 1e9, 5.0]),
        np.append(error, [1.0, 0.0, 1.0]),
        ZERO_POINT,
    )
    assert fit([more]).t_e.value == pytest.approx(fit([data]).t_e.value, rel=1e-6)


def test_a_data_set_of_few_epochs_neither_helps_nor_hurts():
    data = lens(500, 0.3, 20)
    few = Photometry("V", np.array([499.0]), np.array([7.0]), np.array([1.0]))
    assert fit([data, few]).t_e.value == pytest.approx(fit([data]).t_e.value, rel=1e-3)


def test_units_of_flux_do_not_matter():
    data = lens(500, 0.3, 20)
    large = Photometry("I", data.time, 1e9 * data.flux, 1e9 * data.error, ZERO_POINT + 22.5)
    one, other = fit([data]), fit([large])
    assert other.t_e.value == pytest.approx(one.t_e.value, rel=1e-6)
    assert other.sets[0].source_mag == pytest.approx(one.sets[0].source_mag, abs=1e-5)


def test_whatever_the_data_there_is_a_fit_or_a_refusal():
    rng = np.random.default_rng(0)
    for _ in range(40):
        sets = []
        for number in range(rng.integers(1, 4)):
            n = int(rng.integers(1, 200))
            times = (np.sort(rng.uniform(0, 100, n)), np.full(n, 5.0), np.round(rng.uniform(0, 100, n)))[
                rng.integers(3)
            ]
            error = np.full(n, 10 ** rng.uniform(-3, 2))
            light = rng.uniform(-1, 100) * magnification(np.hypot(0.1, (times - 50) / 10 ** rng.uniform(-1, 2.5)))
            flux = light + rng.uniform(-50, 100) + error * rng.normal(size=n) * rng.choice([0, 1, 5])
            flux[rng.integers(n)] = rng.choice([1.0, np.nan, np.inf, 1e12, -1e9])
            error[rng.integers(n)] = rng.choice([1.0, 0.0, -1.0, 1e-30, 1e30, np.nan])
            sets.append(Photometry(str(number), times + rng.choice([0, 2.45e6]), flux, error))
        with contextlib.suppress(Unprocessable):
            json.dumps(fit(sets).document(), allow_nan=False)


def test_a_fit_of_ten_thousand_epochs_takes_less_than_a_second():
    times = np.sort(np.random.default_rng(1).uniform(0, 1000, 10_000))
    light = 50 * magnification(np.hypot(0.1, (times - 500) / 20)) + 50
    noise = ERROR * np.random.default_rng(2).normal(size=len(times))
    data = [Photometry("I", times, light + noise, np.full(len(times), ERROR))]
    fit(data)  # compiles
    begun = time.process_time()  # others may use the machine
    found = fit(data)
    assert time.process_time() - begun < 1
    assert found.t_e.value == pytest.approx(20, abs=3 * found.t_e.error)


def test_the_document_is_json():
    document = fit([lens(500, 0.3, 20, blend=-100)]).document()
    assert document["parameters"]["tE"]["value"] == pytest.approx(20, abs=2)
    assert document["sets"][0]["blend_mag"] is None
    assert len(document["covariance"]) == len(document["order_of_covariance"]) == 3


def test_another_program_finds_the_same():
    other = pytest.importorskip("MulensModel")
    data = lens(500, 0.1, 30)
    found = fit([data], Options(rescale=False, clip_sigma=0))
    measured = other.MulensData([data.time + 2_450_000, data.flux, data.error], phot_fmt="flux")
    values = {"t_0": found.t0.value + 2_450_000, "u_0": found.u0.value, "t_E": found.t_e.value}
    event = other.Event(measured, other.Model(values))
    best = event.get_chi2()
    assert best == pytest.approx(found.chi2, rel=1e-9)
    for name, step in (("t_0", found.t0.error), ("u_0", found.u0.error), ("t_E", found.t_e.error)):
        for sign in (-0.1, 0.1):
            setattr(event.model.parameters, name, values[name] + sign * step)
            assert event.get_chi2() > best
        setattr(event.model.parameters, name, values[name])
