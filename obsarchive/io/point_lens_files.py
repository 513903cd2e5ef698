"""Files of a point-lens fit: its results as JSON, and input of programs that fit parallax and binary lenses.

pyLIMA (Bachelet et al. 2017, AJ 154, 203) and MulensModel (Poleski & Yee 2019, Astron. Comput. 26, 35) read the light
curves as text: times, fluxes, errors. The errors are those of the fit, scaled to the scatter of each data set; all
epochs are written, the ones that the point lens does not explain as well.
"""

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path

import yaml
from astropy.coordinates import SkyCoord

from obsarchive.io.atomic import atomic_write
from obsarchive.science.light_curves.point_lens_model import Measured, PointLens, SetFit

Position = tuple[float, float]
MULENSMODEL_FLUX = 22.0
"""Magnitude of flux 1 in MulensModel."""
SPREAD = 3.0
"""Width of the starting values of a search [errors]."""


def write_results(path: Path, found: PointLens, name: str) -> None:
    """Write the results as JSON.

    Parameters
    ----------
    path : Path
        The file.
    found : PointLens
        The fit.
    name : str
        Name of the event.
    """
    content = {"name": name, "model": "point lens", **found.document()}
    atomic_write(path, (json.dumps(content, indent=1, allow_nan=False) + "\n").encode())


def write_mulensmodel(folder: Path, found: PointLens, position: Position | None = None) -> list[Path]:
    """Write light curves and a configuration for MulensModel and its program ``ulens_model_fit.py``.

    Parameters
    ----------
    folder : Path
        Where they go; made if it does not exist.
    found : PointLens
        The fit, with times in Julian days.
    position : (float, float), optional
        Right ascension and declination [deg], which parallax needs.

    Returns
    -------
    list of Path
        ``mulensmodel.yaml`` and the light curves.
    """
    paths = [_write_light_curve(folder, number, one) for number, one in enumerate(found.sets, 1)]
    files = [{"file_name": path.name, "phot_fmt": "flux"} for path in paths]
    starts = {"t_0": found.t0, "u_0": found.u0, "t_E": found.t_e, "rho": found.rho}
    content = {
        "photometry_files": files,
        **({"model": {"coords": _sexagesimal(position)}} if position else {}),
        "starting_parameters": {name: _gauss(value) for name, value in starts.items() if value is not None},
        "min_values": {"u_0": 0.0, "t_E": 0.0},
        "fitting_parameters": {"n_steps": 3000},
    }
    path = folder / "mulensmodel.yaml"
    atomic_write(path, yaml.safe_dump(content, sort_keys=False).encode())
    return [path, *paths]


def write_pylima(folder: Path, found: PointLens, position: Position | None = None) -> list[Path]:
    """Write light curves and a script for pyLIMA.

    Parameters
    ----------
    folder : Path
        Where they go; made if it does not exist.
    found : PointLens
        The fit, with times in Julian days.
    position : (float, float), optional
        Right ascension and declination [deg], which parallax needs.

    Returns
    -------
    list of Path
        ``fit_pylima.py`` and the light curves.
    """
    paths = [_write_light_curve(folder, number, one) for number, one in enumerate(found.sets, 1)]
    named = {one.name: path.name for one, path in zip(found.sets, paths, strict=True)}
    start = [found.t0.value, found.u0.value, found.t_e.value]
    script = _PYLIMA.format(files=json.dumps(named, indent=4), position=position or (0.0, 0.0), start=start)
    path = folder / "fit_pylima.py"
    atomic_write(path, script.encode())
    return [path, *paths]


EXPORTS: Mapping[str, Callable[[Path, PointLens, Position | None], list[Path]]] = {
    "mulensmodel": write_mulensmodel,
    "pylima": write_pylima,
}
"""Functions that write the input of other programs, by the programs' names."""

_PYLIMA = '''"""Fit with pyLIMA, from the parameters of a point lens; parallax: parallax=["Annual", start[0]]."""

from pathlib import Path

import numpy as np
from pyLIMA import event, telescopes
from pyLIMA.fits import TRF_fit
from pyLIMA.models import PSPL_model

FILES = {files}
POSITION = {position}
START = {start}  # t0 [JD], u0, tE [d]

current = event.Event(ra=POSITION[0], dec=POSITION[1])
current.name = "event"
for name, file in FILES.items():
    data = np.loadtxt(Path(__file__).parent / file)
    current.telescopes.append(
        telescopes.Telescope(
            name=name,
            lightcurve=data,
            lightcurve_names=["time", "flux", "err_flux"],
            lightcurve_units=["JD", "W/m^2", "W/m^2"],
        )
    )
current.find_survey(next(iter(FILES)))
current.check_event()
model = PSPL_model.PSPLmodel(current, parallax=["None", 0.0])
fit = TRF_fit.TRFfit(model)
fit.model_parameters_guess = START
fit.fit()
print(fit.fit_results["best_model"])
'''


def _gauss(value: Measured) -> str:
    width = SPREAD * max(value.error, 1e-9 * abs(value.value))
    return f"gauss {value.value:.12g} {width:.3g}"


def _sexagesimal(position: Position) -> str:
    place = SkyCoord(*position, unit="deg")
    return str(place.to_string("hmsdms", sep=":", precision=2))


def _write_light_curve(folder: Path, number: int, one: SetFit) -> Path:
    """Write the epochs of a data set, in fluxes of which 1 has magnitude 22."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{number:02d}_{re.sub(r'[^A-Za-z0-9+-]+', '_', one.name).strip('_') or 'data'}.dat"
    unit = 10 ** (0.4 * (MULENSMODEL_FLUX - one.zero_point))
    data = one.data
    lines = [
        f"# {one.name}: JD, flux (1: {MULENSMODEL_FLUX:g} mag), error (multiplied by {one.error_scale:.3f})\n",
        *(
            f"{time:.7f} {flux * unit:.8g} {error * unit * one.error_scale:.5g}\n"
            for time, flux, error in zip(data.time, data.flux, data.error, strict=True)
        ),
    ]
    atomic_write(path, "".join(lines).encode())
    return path
