"""Paths of the archive tree; no other module joins them."""

from dataclasses import dataclass
from pathlib import Path

SIDECAR, NIGHT_SIDECAR = ".observation.json", ".night.json"
"""Name of the file that holds the document of an observation."""


@dataclass(frozen=True)
class Layout:
    """Paths of one archive.

    Products are named relative to the folder of their pipeline: ``<night>/<observation>/<pipeline>/`` for an
    observation, ``<night>/calib/`` or ``<night>/summary/`` for a night.

    Parameters
    ----------
    root : Path
        Folder of the archive.
    """

    root: Path

    def night(self, night: str) -> Path:
        """Return the folder of a night."""
        return self.root / night

    def observation(self, night: str, obs_id: str) -> Path:
        """Return the folder of an observation.

        Parameters
        ----------
        night : str
            UT date, ``yyyymmdd``.
        obs_id : str
            Name of the observation.

        Returns
        -------
        Path
        """
        return self.root / night / obs_id

    def sidecar(self, night: str, obs_id: str) -> Path:
        """Return the file that holds the document of an observation without its pipelines.

        Parameters
        ----------
        night : str
            UT date, ``yyyymmdd``.
        obs_id : str
            Name of the observation.

        Returns
        -------
        Path
        """
        return self.observation(night, obs_id) / SIDECAR

    def night_sidecar(self, night: str) -> Path:
        """Return the file with the requests of users for a night, which is there only while there are any."""
        return self.night(night) / NIGHT_SIDECAR

    def tarball(self, night: str, obs_id: str) -> Path:
        """Return the file with all products of an observation.

        Parameters
        ----------
        night : str
            UT date, ``yyyymmdd``.
        obs_id : str
            Name of the observation.

        Returns
        -------
        Path
        """
        return self.observation(night, obs_id) / f"{obs_id}.tar.bz2"

    def calibration(self, night: str) -> Path:
        """Return the folder of a night's masters."""
        return self.root / night / "calib"

    def summary(self, night: str) -> Path:
        """Return the folder of a night's summaries: seeing, Strehl, contrast curves."""
        return self.root / night / "summary"

    def manifest(self, folder: Path, step: str) -> Path:
        """Return the manifest of a step.

        Parameters
        ----------
        folder : Path
            Folder of the pipeline.
        step : str
            Name of the step.

        Returns
        -------
        Path
        """
        return folder / f".{step}.json"

    @property
    def psf_library(self) -> Path:
        """Reference PSFs of all nights."""
        return self.root / "psf_library.fits"

    def psf_candidate(self, night: str, obs_id: str) -> Path:
        """Return the file with the stamps of a star that its night offers to the PSF library.

        Parameters
        ----------
        night : str
            UT date, ``yyyymmdd``.
        obs_id : str
            Name of the observation of the star.

        Returns
        -------
        Path
        """
        return self.summary(night) / "psflib" / f"{obs_id}.fits"

    @property
    def psf_library_removals(self) -> Path:
        """File with the stars that were removed from the PSF library, which outlives it."""
        return self.root / ".psf_library.json"

    @property
    def psf_library_lock(self) -> Path:
        """File locked by a process that changes the PSF library."""
        return self.root / ".psf_library.lock"

    @property
    def identifier(self) -> Path:
        """File with the identifier of this archive, made by its first daemon or backup."""
        return self.root / ".archive-id"

    @property
    def permits(self) -> Path:
        """Folder of the permits of tasks (:mod:`obsarchive.io.permit`), in a folder for each run of the daemon."""
        return self.root / ".permits"

    @property
    def start_record(self) -> Path:
        """File that names the daemon of this archive from its start on (:mod:`obsarchive.io.start_record`)."""
        return self.root / ".daemon.json"

    @property
    def master_lock(self) -> Path:
        """File locked by the daemon of this archive."""
        return self.root / ".master.lock"
