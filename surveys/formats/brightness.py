"""Brightness of epochs: fluxes [µJy] and magnitudes from each other, in whatever unit they are declared."""

import re
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from obsarchive.errors import Unprocessable
from obsarchive.science.light_curves.light_curve import AB_MICROJANSKY, fluxes_of_magnitudes, magnitudes_of_fluxes
from surveys.formats.cell_values import numbers_of, words_of
from surveys.formats.hdf5_light_curves import Columns

if TYPE_CHECKING:
    from astropy.units import UnitBase

NO_MAGNITUDE = 50.0
"""Surveys write 99, 100 or -999 where they measured nothing."""
NO_FLUX = (-99.0, -99.99, -999.0, -9999.0)
"""What surveys write as a flux where they measured none; it counts only with an error that is none either."""
NO_NUMBERS = frozenset(("", "nan", "na", "n/a", "none", "null", "-", "--", "inf", "-inf"))
"""Words, in lower case, where nothing was measured."""
MAGGY_UJY = 3631e6
"""Flux of magnitude 0 in the AB system [µJy]: a maggy."""
UNIT_ALIASES = {
    "ujy": "uJy",
    "µjy": "uJy",
    "μjy": "uJy",
    "mjy": "mJy",
    "njy": "nJy",
    "jy": "Jy",
    "e-/s": "electron/s",
    "e/s": "electron/s",
    "'electron'.s**-1": "electron/s",
    "counts/s": "ct/s",
    "cts/s": "ct/s",
    "counts": "ct",
    "dn": "adu",
    "microjy": "uJy",
    "microjansky": "uJy",
    "millijansky": "mJy",
    "millijy": "mJy",
    "mujy": "uJy",
    "jansky": "Jy",
    "nmgy": "nmgy",
    "nanomaggy": "nmgy",
    "nanomaggies": "nmgy",
    "maggy": "mgy",
    "maggies": "mgy",
    "magnitude": "mag",
    "magnitudes": "mag",
    "abmag": "mag(AB)",
    "mag_ab": "mag(AB)",
    "millimag": "mmag",
    "days": "d",
    "day": "d",
    "seconds": "s",
    "sec": "s",
    "degrees": "deg",
}
"""Units that tables write in words that astropy does not know, in lower case."""
_GUESSES = {"µJy": 1.0, "mJy": 1e3, "Jy": 1e6, "nJy": 1e-3, "nanomaggies": MAGGY_UJY * 1e-9}
SAME_MAG, LIKE_MAG, NEAR_MAG = 0.6, 0.3, 3.5
"""Differences of fluxes and magnitudes [mag]: µJy for certain, another usual unit, and a magnitude system at most."""
UNLIKE_MAG = 5.0
"""Difference from the catalogue that few sources show, and wrong units do [mag]."""
PROPORTIONAL_MAG, PROPORTIONAL_EPOCHS = 0.1, 5
"""Fluxes are proportional to those of the magnitudes if the difference varies by less, over so many epochs."""


@dataclass(frozen=True)
class Measured:
    """Brightness as a table has it.

    Parameters
    ----------
    mag, mag_err, flux, flux_err : ndarray (n,) or None
        Columns; None: there is none.
    names : mapping of str to str
        Names of these columns, for messages.
    units : mapping of str to str
        Declared units, by ``mag``, ``mag_err``, ``flux``, ``flux_err``.
    zero_point : float, ndarray (n,) or None
        Magnitude of flux 1 [mag].
    expected_mag : float or None
        Magnitude of the source in the catalogue, to compare fluxes without a unit with.
    """

    mag: NDArray[Any] | None
    mag_err: NDArray[Any] | None
    flux: NDArray[Any] | None
    flux_err: NDArray[Any] | None
    names: dict[str, str]
    units: dict[str, str]
    zero_point: float | NDArray[np.float64] | None
    expected_mag: float | None = None


def parsed_unit(text: str) -> "UnitBase | None":
    """Return a declared unit, as astropy or VizieR write it; None if it is not understood."""
    from astropy import units as u  # late: most tables declare no units

    plain = UNIT_ALIASES.get(text.strip().lower(), text.strip().strip("'\"[]"))
    for written in (None, "cds"):
        with warnings.catch_warnings(action="ignore"):  # about slashes
            try:
                return u.Unit(plain, format=written)
            except (ValueError, TypeError):
                continue
    return None


def in_unit(values: NDArray[Any], unit: str, wanted: str, name: str) -> NDArray[np.float64]:
    """Return numbers in a wanted unit.

    Parameters
    ----------
    values : ndarray (n,)
        Numbers, or text.
    unit : str
        Their declared unit; empty: the wanted one.
    wanted : str
        Unit of the result.
    name : str
        Name of the column, for messages.

    Returns
    -------
    ndarray (n,)

    Raises
    ------
    Unprocessable
        The unit is of another kind.
    """
    if not unit:
        return numbers_of(values)
    found = parsed_unit(unit)
    if found is None or not found.is_equivalent(wanted):
        raise Unprocessable(f"column {name!r}: expected a unit such as {wanted}, found {unit!r}")
    return np.asarray(found.to(wanted, numbers_of(values)), np.float64)


def microjansky_of(text: str, name: str) -> float | None:
    """Return a unit of flux density [µJy]; None if it is that of an instrument: counts, electrons, a ratio.

    Parameters
    ----------
    text : str
        The declared unit.
    name : str
        Name of the column, for messages.

    Returns
    -------
    float or None

    Raises
    ------
    Unprocessable
        The unit is not understood, or is a flux density per wavelength.
    """
    from astropy import units as u

    unit = parsed_unit(text)
    if unit is None:
        raise Unprocessable(f"unit {text!r} of column {name!r} is not understood; write a unit of astropy, such as mJy")
    if unit.is_equivalent(u.uJy):
        return float(unit.to(u.uJy))
    maggies = unit.decompose(bases=[u.mgy]) if u.mgy in unit.decompose().bases else None
    if maggies is not None:
        return float(maggies.scale) * MAGGY_UJY
    if unit.is_equivalent(u.Unit("W m-3")):
        raise Unprocessable(
            f"unit {text!r} of column {name!r} is a flux density per wavelength: expected one per frequency, such as Jy"
        )
    return None


def brightness_of(measured: Measured, n: int, remarks: list[str]) -> Columns:
    """Return fluxes and magnitudes, computed from each other where only one is given.

    Parameters
    ----------
    measured : Measured
        Brightness as the table has it.
    n : int
        Number of epochs.
    remarks : list of str
        What a person should know is appended.

    Returns
    -------
    dict of str to ndarray (n,)
        flux, flux_err [µJy], mag, mag_err [mag], and limit (bool): the survey states a limit, no detection.

    Raises
    ------
    Unprocessable
        Units that are not understood, or fluxes that nothing calibrates.
    """
    mag, mag_err, limit = _magnitudes(measured, n)
    _note_words(measured, limit, remarks)
    if measured.flux is None:
        flux, flux_err = fluxes_of_magnitudes(mag, mag_err)
        return {"flux": flux, "flux_err": flux_err, "mag": mag, "mag_err": mag_err, "limit": limit}
    flux, flux_err = _fluxes(measured, n)
    factor, error_factor = _factors(measured, flux, mag, remarks)
    flux, flux_err = flux * factor, flux_err * error_factor
    _compare_with_catalogue(measured, flux, remarks)
    computed = magnitudes_of_fluxes(flux, flux_err)
    if measured.mag is None or not (np.isfinite(mag) | limit).any():
        mag, mag_err = computed
    elif measured.mag_err is None:
        # the survey's own: a flux may be too faint, or negative, for a magnitude
        mag_err = np.where(np.isnan(mag), np.nan, computed[1])
    return {"flux": flux, "flux_err": flux_err, "mag": mag, "mag_err": mag_err, "limit": limit}


def _magnitudes(measured: Measured, n: int) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
    none = np.full(n, np.nan)
    if measured.mag is None:
        return none, none, np.zeros(n, bool)
    limit = np.zeros(n, bool)
    if measured.mag.dtype.kind in "OSU":
        limit = np.strings.startswith(words_of(measured.mag), "<") | np.strings.startswith(words_of(measured.mag), ">")
    mag = _some_numbers(measured.mag, measured.names.get("mag", "mag"), limit) * _in_magnitudes(measured, "mag")
    error = none if measured.mag_err is None else numbers_of(measured.mag_err) * _in_magnitudes(measured, "mag_err")
    unknown = ~(np.abs(mag) <= NO_MAGNITUDE)
    is_zero = mag == 0
    if is_zero.any() and np.median(np.abs(mag[~unknown])) > 5:  # differential magnitudes are near 0, and real
        unknown |= is_zero
    mag = np.where(unknown, np.nan, mag)
    return mag, np.where(unknown | ~((error >= 0) & (error <= NO_MAGNITUDE)), np.nan, error), limit


def _some_numbers(values: NDArray[Any], name: str, limit: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return a column as numbers; Unprocessable if it holds text, and no number."""
    numbers = numbers_of(values)
    if values.dtype.kind in "OSU" and len(values) and np.isnan(numbers).all():
        words = [word for word in words_of(values)[~limit].tolist() if word.lower() not in NO_NUMBERS]
        if words:
            raise Unprocessable(f"column {name!r} holds {words[0]!r}: expected numbers, with a decimal point")
    return numbers


def _note_words(measured: Measured, limit: NDArray[np.bool_], remarks: list[str]) -> None:
    """Note values that are no numbers among those that are."""
    for what, values in (("mag", measured.mag), ("flux", measured.flux)):
        if values is None or values.dtype.kind not in "OSU":
            continue
        is_lost = np.isnan(numbers_of(values)) & ~limit
        words = [word for word in words_of(values)[is_lost].tolist() if word.lower() not in NO_NUMBERS]
        if words:
            name = measured.names.get(what, what)
            remarks.append(f"{len(words)} of {len(values)} values of {name!r} are no numbers, such as {words[0]!r}")


def _in_magnitudes(measured: Measured, what: str) -> float:
    """Return the unit of magnitudes or their errors [mag]."""
    text = measured.units.get(what) or measured.units.get("mag") or ""
    if not text:
        return 1.0
    from astropy import units as u

    unit = parsed_unit(text)
    if unit is not None and isinstance(unit, u.function.FunctionUnitBase):
        unit = unit.function_unit
    if unit is None or not unit.is_equivalent(u.mag):
        raise Unprocessable(f"unit {text!r} of column {measured.names.get(what, what)!r} is none of magnitudes")
    return float(unit.to(u.mag))


def _fluxes(measured: Measured, n: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    none = np.zeros(n, bool)
    flux = np.full(n, np.nan)
    if measured.flux is not None:
        flux = _some_numbers(measured.flux, measured.names.get("flux", "flux"), none)
    error = numbers_of(measured.flux_err) if measured.flux_err is not None else np.full(n, np.nan)
    known = (error >= 0) & np.isfinite(error)
    if measured.flux_err is not None:
        flux = np.where(np.isin(flux, NO_FLUX) & ~known, np.nan, flux)
    return flux, np.where(known, error, np.nan)


def _factors(
    measured: Measured, flux: NDArray[np.float64], mag: NDArray[np.float64], remarks: list[str]
) -> tuple[float | NDArray[np.float64], float | NDArray[np.float64]]:
    """Return the units of the fluxes and of their errors [µJy]."""
    name, declared = measured.names.get("flux", "flux"), measured.units.get("flux", "")
    density: float | NDArray[np.float64] | None = microjansky_of(declared, name) if declared else None
    if density is None and measured.zero_point is not None:
        density = 10 ** (0.4 * (AB_MICROJANSKY - measured.zero_point))
    found, scatter, n = _measured_zero_point(flux, mag)
    if density is not None:
        _compare(density, found, name, remarks)
    elif n < PROPORTIONAL_EPOCHS or not np.isfinite(found):
        if declared:
            raise Unprocessable(
                f"fluxes {name!r} are in {declared}: no flux density, and there are no magnitudes to compare with; "
                "set zero_point, the magnitude of flux 1"
            )
        density = 1.0
        if n and abs(found - AB_MICROJANSKY) > NEAR_MAG:
            remarks.append(
                f"fluxes {name!r} have no unit and are taken as µJy; magnitudes of {n} epochs beside them differ by "
                f"{found - AB_MICROJANSKY:+.1f} mag: give their unit or zero_point"
            )
    else:
        density = _inferred(found, scatter, name, declared, remarks)
    own = measured.units.get("flux_err", "")
    error_density = microjansky_of(own, measured.names.get("flux_err", "")) if own and own != declared else None
    return density, density if error_density is None else error_density


def _compare_with_catalogue(measured: Measured, flux: NDArray[np.float64], remarks: list[str]) -> None:
    """Note if fluxes that declare no unit are much brighter or fainter, as µJy, than the catalogue says."""
    is_told = measured.units.get("flux") or measured.zero_point is not None or measured.mag is not None
    middle = float(np.median(flux[np.isfinite(flux)])) if np.isfinite(flux).any() else 0.0
    if is_told or measured.expected_mag is None or middle <= 0:
        return
    difference = AB_MICROJANSKY - 2.5 * np.log10(middle) - measured.expected_mag
    if abs(difference) > UNLIKE_MAG:
        remarks.append(
            f"fluxes {measured.names.get('flux')!r} have no unit and are taken as µJy: {difference:+.1f} mag from the "
            "catalogue; give their unit or zero_point"
        )


def _measured_zero_point(flux: NDArray[np.float64], mag: NDArray[np.float64]) -> tuple[float, float, int]:
    """Return the zero point that magnitudes give fluxes, its scatter [mag] and the number of epochs."""
    both = np.isfinite(mag) & (flux > 0)
    if not both.any():
        return np.nan, np.nan, 0
    points = mag[both] + 2.5 * np.log10(flux[both])
    middle = float(np.median(points))
    return middle, float(np.median(np.abs(points - middle))), int(both.sum())


def _compare(density: float | NDArray[np.float64], found: float, name: str, remarks: list[str]) -> None:
    """Note if fluxes in their declared unit and magnitudes contradict each other."""
    difference = found - AB_MICROJANSKY + 2.5 * np.log10(float(np.nanmedian(density)))
    if abs(difference) > NEAR_MAG:
        remarks.append(
            f"fluxes {name!r} in their declared unit and magnitudes differ by {difference:+.1f} mag, a factor of "
            f"{10 ** (0.4 * abs(difference)):.3g}: one of them is wrong, or they are of different kinds"
        )


def _inferred(found: float, scatter: float, name: str, declared: str, remarks: list[str]) -> float:
    """Return the unit [µJy] of fluxes that declare none, or that of an instrument, from the magnitudes beside them."""
    measured = float(10 ** (0.4 * (AB_MICROJANSKY - found)))
    if declared:
        if scatter > PROPORTIONAL_MAG:
            raise Unprocessable(
                f"fluxes {name!r} are in {declared} and do not follow the magnitudes: set zero_point, the magnitude of "
                "flux 1"
            )
        remarks.append(f"fluxes {name!r} in {declared} are calibrated by the magnitudes: zero point {found:.2f}")
        return measured
    is_near = abs(found - AB_MICROJANSKY) < NEAR_MAG  # magnitudes may be of another system, such as Vega's
    if scatter > PROPORTIONAL_MAG:
        if not is_near:
            remarks.append(
                f"fluxes {name!r} have no unit and do not follow the magnitudes; they are taken as µJy, which differs "
                f"by a factor of {max(measured, 1 / measured):.3g}: give their unit or zero_point"
            )
        return 1.0
    return _usual_unit(measured, name, is_near, remarks)


def _usual_unit(measured: float, name: str, is_near: bool, remarks: list[str]) -> float:
    """Return the usual unit [µJy] that fluxes proportional to the magnitudes are in, or the measured one."""
    for unit, density in _GUESSES.items():
        if abs(2.5 * np.log10(measured / density)) < (SAME_MAG if density == 1 else LIKE_MAG):
            if density != 1:
                remarks.append(f"fluxes {name!r} have no unit; beside the magnitudes they are in {unit}")
            return density
    if is_near:
        return 1.0
    found = AB_MICROJANSKY - 2.5 * np.log10(measured)
    remarks.append(f"fluxes {name!r} have no unit; they are calibrated by the magnitudes: zero point {found:.2f}")
    return measured


def split_unit(name: str) -> tuple[str, str]:
    """Return the name of a column and the unit in it, as in ``flux(mJy)``, ``Flux [µJy]``, ``flux_uJy``."""
    found = re.fullmatch(r"(.*?)\s*[\[(]\s*([^\[\]()]+|[^\[\]]+)\s*[\])]", name) or re.fullmatch(
        r"(.*[^\W_])_([uµμ]Jy|mJy|nJy|Jy|nMgy|mmag)", name, re.IGNORECASE
    )
    if not found or not found[1]:
        return name, ""
    unit = parsed_unit(found[2])
    if unit is None or found[2].strip() in ("V", "B", "R", "G", "J", "H", "K", "g", "r", "i", "u", "z", "y"):
        return name, ""  # a filter, or something else
    return found[1], found[2].strip()


def unit_named(name: str) -> str:
    """Return the unit that is the name of a column, such as ``uJy``, ``duJy``, ``mJy_err``; empty if it is another."""
    found = re.fullmatch(r"(?:d|e_?)?([uµμ]Jy|mJy|nJy|Jy)(?:_?err)?", name, re.IGNORECASE)
    return found[1] if found else ""
