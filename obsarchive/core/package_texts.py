"""Texts that go with the products of an observation into every archive file: what each product is, and checksums."""

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

README, CITATION, CHECKSUMS = "README.txt", "CITATION.txt", "SHA256SUMS"
TEXTS = frozenset({README, CITATION, CHECKSUMS})
"""Names of the files beside the products of an observation."""
PACKAGE_VERSION = 2
"""Version of what a tarball holds: 1 was everything of the folder, 2 is products and texts."""

_PRODUCTS = tuple(
    (re.compile(pattern), text)
    for pattern, text in (
        (r"raw/.*", "raw file as the camera wrote it, not calibrated"),
        (
            r"calibration/dark_.*\.fits",
            "master dark of the night: mean of dark frames, subtracted from raw frames",
        ),
        (r"calibration/flat_.*\.fits", "master flat of the night: response of the pixels, by which frames are divided"),
        (r"(.*/)?100p\.fits", "registered mean of all good frames"),
        (r"(.*/)?(\d+)p\.fits", r"registered mean of the sharpest \2 % of the frames"),
        (r".*_summed\.fits", "mean of the frames, registered on their own mean, without cosmic rays"),
        (r".*_simple_sum\.fits", "mean of the frames as they are, not registered"),
        (r".*_stack\.fits", "mean of the exposures, registered on the brightest star, without cosmic rays"),
        (r".*_registered\.fits", "mean of the sharpest frames, registered on the whole object, and its two halves"),
        (r".*_deconvolved\.fits", "deconvolved image (Richardson-Lucy, stopped by the data)"),
        (r".*frames\.txt", "every frame: quality, shift, and whether it was used"),
        (r".*shifts\.txt", "shift of every frame"),
        (r".*_strehl\.txt", "Strehl ratio and FWHM of the star, and how they were measured"),
        (r".*_box\.fits", "cut-out of the star in which the Strehl ratio was measured"),
        (r".*_profile\.png", "plot: radial profile of the star beside that of a diffraction-limited one"),
        (r".*_pca\.fits", "image with the star subtracted by reference stars (KLIP), and its map of signal to noise"),
        (r".*_pca\.png", "picture: the star before and after the subtraction"),
        (r".*contrast_curve\.txt", "5 sigma contrast [mag] against separation [arcsec], and throughput"),
        (r".*contrast_curve\.png", "plot: 5 sigma contrast against separation"),
        (r".*_wcs\.fits", "image with the astrometric solution of its stars in the header"),
        (r".*_matches\.csv", "stars of the image matched with the catalogue, with residuals"),
        (r".*_astrometry\.png", "plot: residuals of the astrometric solution"),
        (r".*photometry.*\.(csv|ecsv|fits|txt)", "magnitudes of the sources in the image, with errors"),
        (r".*_full\.png", "picture: whole frame"),
        (r".*_cropped\.png", "picture: close-up of the target"),
        (r".*_thumb\.png", "picture: thumbnail"),
        (r".*_quality\.png", "plot: quality of the frames, and which were used"),
        (r".*_shifts\.png", "plot: image motion"),
        (r".*_comparison\.png", "picture: mean and deconvolved image side by side"),
        (r".*\.fits(\.bz2|\.gz|\.fz)?", "FITS image or table; its header describes it"),
        (r".*\.png", "picture or plot"),
        (r".*\.(txt|csv|ecsv)", "table; its first lines describe it"),
    )
)


class Member(NamedTuple):
    """A file of an archive file: its name below the folder of the observation, and its size [bytes]."""

    name: str
    n_bytes: int


def describe(name: str) -> str:
    """Say in a line what a product is, by its name; empty where the name tells nothing."""
    found = ((pattern.fullmatch(name), text) for pattern, text in _PRODUCTS)
    return next((match.expand(text) for match, text in found if match), "")


def readme(observation: str, members: Iterable[Member]) -> str:
    """Return the text of the README.

    Parameters
    ----------
    observation : str
        Name of the observation.
    members : iterable of Member
        Products.

    Returns
    -------
    str
    """
    lines = [f"Products of the observation {observation}", ""]
    for member in members:
        lines += [f"{member.name}  ({member.n_bytes} bytes)", f"    {describe(member.name) or 'see its pipeline'}"]
    if len(lines) == 2:
        lines.append("There are none: no pipeline made a product of it.")
    return "\n".join(
        [
            *lines,
            "",
            "Folders are named after the pipelines that made the products. Headers of FITS files say from which raw",
            "files and master frames, by which pipeline, step and version a product was made. All times are UTC.",
            "",
            f"Check the files with:    sha256sum --check {CHECKSUMS}",
            f"How to cite these data:  {CITATION}",
            "",
        ]
    )


def checksums(sums: Sequence[tuple[str, str]]) -> str:
    """Return checksums as sha256sum writes and checks them.

    Parameters
    ----------
    sums : sequence of (str, str)
        Name and SHA-256 of each file.

    Returns
    -------
    str
    """
    return "".join(_checksum_line(name, digest) for name, digest in sums)


def _checksum_line(name: str, digest: str) -> str:
    """Escape a name as sha256sum does."""
    escaped = name.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")
    mark = "\\" if escaped != name else ""
    return f"{mark}{digest}  {escaped}\n"
