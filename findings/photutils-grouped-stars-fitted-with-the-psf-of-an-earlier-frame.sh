#!/usr/bin/env bash
# photutils 3.0.0: grouped stars of a frame can be fitted with the PSF of an earlier frame.
#
# Valid input: frames of changing seeing, each without noise, with two stars of 1000 counts 4 pixels apart; each frame
# is given to a new PSFPhotometry with an ImagePSF of just its own seeing and a SourceGrouper.
# Expected: 1000.0 in every frame. Seen: some frames give other fluxes, without any warning; with a subclass of ImagePSF
# of another name for each frame, all give 1000.0.
#
# Reason: the model of a group is a class made at run time that holds the PSF, and is cached by the number of stars and
# the NAME of the PSF's class. As long as the garbage collector has not collected the class of an earlier frame, a later
# frame with as many stars in a group gets that one, with its PSF. Which frames are wrong depends on the collector: with
# a collection before each frame all are right; with the collector off all but the first are wrong.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet photutils==3.0.0 astropy==8.0.2 numpy==2.4.6 scipy==1.17.1
cat > "$folder/frames.py" <<'PY'
import gc

import numpy as np
from astropy.table import Table
from photutils.psf import CircularGaussianPRF, ImagePSF, PSFPhotometry, SourceGrouper

Y, X = np.mgrid[:61, :61]
B, A = np.mgrid[-15:16, -15:16]
START = Table({"x": [28.0, 32.0], "y": [30.0, 30.0], "flux": [900.0, 900.0]})


def fluxes(kind_of, grouper, before):
    found = []
    for i, fwhm in enumerate(np.linspace(3, 5, 12)):
        before()
        image = sum(CircularGaussianPRF(flux=1000, x_0=x, y_0=30, fwhm=fwhm)(X, Y) for x in (28, 32))
        psf = kind_of(i)(CircularGaussianPRF(flux=1, fwhm=fwhm)(A, B))
        found.append(float(PSFPhotometry(psf, (11, 11), grouper=grouper)(image, init_params=START)["flux_fit"][0]))
    return np.round(found, 1)


def same(_):
    return ImagePSF


def renamed(i):
    return type(f"ImagePSF{i}", (ImagePSF,), {})


gc.disable()
off = fluxes(same, SourceGrouper(10), lambda: None)
named = fluxes(renamed, SourceGrouper(10), lambda: None)
collected = fluxes(same, SourceGrouper(10), gc.collect)
print("collector off          ", *off)
print("off, classes renamed   ", *named)
print("collected before each  ", *collected)
assert off[0] == 1000 and (np.abs(off[1:] - 1000) > 5).all() and off[-1] < 650, "behaviour changed"
assert (named == 1000).all() and (collected == 1000).all(), "behaviour changed"
PY
"$folder/venv/bin/python" "$folder/frames.py"
# Seen:
# collector off           1000.0 949.9 903.4 860.3 820.4 783.4 749.1 717.2 687.6 659.8 633.9 609.5
# off, classes renamed    1000.0 in each
# collected before each   1000.0 in each
