"""An instrument of truth: a second simulator of observations, for the quality benchmarks alone.

Nothing in it is shared with ``obsarchive.simulation``. Turbulence is drawn as long strips by Fourier series and
sub-harmonics and blown over the pupil in layers; a loop of Zernike modes corrects it at one kilohertz, two steps late;
images are matrix Fourier transforms at several wavelengths; the camera moves and multiplies electrons.

Places are (y, x). A star of the sky at ``(dy, dx)`` arcsec appears in frame ``i`` at pixel
``(ny // 2, nx // 2) + origin_px + shifts_px[i] + (dy, dx) / pixel_arcsec``: north is up, east is left. ::

    instrument = Instrument(camera=Camera(shape=(128, 128)), exposures=Exposures(size=128))
    sky = Sky((Star(electrons=400), Star(0.6, -0.4, electrons=150)), background_e=0.1)
    frames, truth = observe(instrument, sky, n_frames=100, seed=1)    # (100, 128, 128) uint16 ADU
    truth.shifts_px, truth.positions_px, truth.electrons              # (n, 2), (stars, n, 2), (stars, n)
    truth.matched_px, truth.peaks_px                                  # (n, 2): of the core, from shifts_px on
    truth.psf(3), truth.long_exposure, truth.strehl                   # unit flux; truth.strehl (n,)
    truth.stack_strehl(0.2), truth.dark_adu, truth.flat, instrument.camera.adu_per_electron

``shifts_px`` are mean tilts of wavefronts. The core of an image is where it stays longest during the exposure, a
quarter of a pixel or more from there: a perfect registration by a matched filter finds ``shifts_px + matched_px``, one
by the highest point ``shifts_px + peaks_px``, for all stars of a frame alike.

For many trials compute the images once; each trial then takes consecutive exposures from a random one on::

    images = instrument.bank(300, seed=0)
    for seed in range(1000):
        frames, truth = observe(instrument, sky, 60, seed, images)

Light, turbulence and correction are parameters: ``Atmosphere(r0_m=0.07)`` for bad seeing, ``Loop(modes=0)`` without
adaptive optics, ``Loop(motion_left=0)`` without image motion, ``Telescope(static_nm=120)`` for speckles that stay;
``Camera(response=0, deferred=0, ...)`` spoils less, and ``truth.noiseless(i)`` are the expected electrons. Images hold
the light within ``Exposures.size`` pixels, 97 % of it in the 256 of the default.
"""

from benchmarks.quality.instrument.camera import Camera
from benchmarks.quality.instrument.correction import Atmosphere, Bank, Exposures, Loop
from benchmarks.quality.instrument.exposure import Instrument, Sky, Star, Truth, observe
from benchmarks.quality.instrument.layers import Layer
from benchmarks.quality.instrument.optics import Air, Band, Telescope

__all__ = [
    "Air",
    "Atmosphere",
    "Band",
    "Bank",
    "Camera",
    "Exposures",
    "Instrument",
    "Layer",
    "Loop",
    "Sky",
    "Star",
    "Telescope",
    "Truth",
    "observe",
]
