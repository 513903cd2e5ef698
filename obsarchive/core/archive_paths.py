"""Every path of the archive tree. Nobody else joins archive paths."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Layout:
    """Where everything lies in the archive.

    Products are named relative to the folder of their pipeline: ``<night>/<observation>/<pipeline>/`` for an
    observation, ``<night>/calib/`` or ``<night>/summary/`` for a night.
    """

    root: Path

    def night(self, night: str) -> Path:
        """Folder of a night."""
        return self.root / night

    def observation(self, night: str, obs_id: str) -> Path:
        """Folder of an observation."""
        return self.root / night / obs_id

    def sidecar(self, night: str, obs_id: str) -> Path:
        """What the database knows of an observation beside its pipelines, kept in the tree."""
        return self.observation(night, obs_id) / ".observation.json"

    def tarball(self, night: str, obs_id: str) -> Path:
        """Everything of an observation in one file."""
        return self.observation(night, obs_id) / f"{obs_id}.tar.bz2"

    def calibration(self, night: str) -> Path:
        """Folder of a night's masters."""
        return self.root / night / "calib"

    def summary(self, night: str) -> Path:
        """Folder of a night's summaries: seeing, Strehl, contrast curves."""
        return self.root / night / "summary"

    def manifest(self, folder: Path, step: str) -> Path:
        """Manifest of a step, in the folder of its pipeline."""
        return folder / f".{step}.json"

    @property
    def psf_library(self) -> Path:
        """Reference PSFs of all nights."""
        return self.root / "psf_library.fits"

    def psf_candidate(self, night: str, obs_id: str) -> Path:
        """Stamps of a star that its night offers to the PSF library."""
        return self.summary(night) / "psflib" / f"{obs_id}.fits"

    @property
    def psf_library_lock(self) -> Path:
        """File locked by whoever changes the PSF library."""
        return self.root / ".psf_library.lock"

    @property
    def master_lock(self) -> Path:
        """File locked by the one daemon of this archive."""
        return self.root / ".master.lock"
