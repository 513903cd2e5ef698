"""An electron-multiplying CCD, charge by charge: from light to the numbers of a raw file.

What happens to a frame, in this order: photo-electrons, dark current, cosmic rays, charge released by traps that
earlier frames filled (persistence), full wells, clock-induced charge, charge left behind in the transfer of rows,
multiplication of each electron, charge left behind in the register, the amplifier's non-linearity and noise, bias,
integers.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy import ndimage


@dataclass(frozen=True)
class Camera:
    """An electron-multiplying CCD; patterns depend on `shape` and `seed` alone.

    Parameters
    ----------
    shape : (int, int)
        Pixels of the detector.
    gain, stages : float, int
        Mean multiplication, and stages of the register; a gain of 1 is the conventional amplifier.
    electrons_per_adu, noise_e, bias_adu : float
        Behind the register.
    dark_e_s, induced_e, spurious_e : float
        Dark current [e/s], clock-induced charge before the register, and charge born in it [e/pixel/frame].
    deferred, deferred_register : float
        Share of charge that the whole transfer of the farthest row leaves behind; the same in the register.
    trapped, release_s : float
        Share of the charge of a frame that is held, and for how long.
    full_well_e, bent : float
        Of a pixel; relative loss of the amplifier at full scale.
    rays_s : float
        Cosmic rays on a megapixel in a second.
    wander_adu, stripes_adu : float
        Rms of the bias level from frame to frame, and from row to row in a frame.
    response : float
        Rms of the pixels' response.
    seed : int
        Of the patterns.
    """

    shape: tuple[int, int] = (256, 256)
    gain: float = 150.0
    stages: int = 536
    electrons_per_adu: float = 6.0
    noise_e: float = 55.0
    bias_adu: float = 480.0
    dark_e_s: float = 0.01
    induced_e: float = 0.004
    spurious_e: float = 0.002
    deferred: float = 0.004
    deferred_register: float = 0.006
    trapped: float = 5e-4
    release_s: float = 2.0
    full_well_e: float = 80_000.0
    bent: float = 0.02
    rays_s: float = 0.8
    wander_adu: float = 0.3
    stripes_adu: float = 0.25
    response: float = 0.01
    seed: int = 5

    @cached_property
    def flat(self) -> NDArray:
        """Relative response of the pixels: vignetting, dust and pixels, mean 1."""
        rng = self._rng(0)
        ny, nx = self.shape
        y, x = np.mgrid[:ny, :nx] / max(ny, nx)
        flat = np.cos(0.35 * np.hypot(y - 0.53, x - 0.46)) ** 4
        for _ in range(9):
            cy, cx, radius = rng.uniform([0, 0, 0.01], [1, 1, 0.04])
            distance = np.hypot(y - cy, x - cx)
            # the shadow of a speck out of focus: a disc with a hole
            flat *= 1 - rng.uniform(0.01, 0.06) * ((distance < radius) & (distance > 0.3 * radius))
        flat = ndimage.gaussian_filter(flat, 0.7) * (1 + self.response * rng.standard_normal(self.shape))
        return (flat / flat.mean()).astype(np.float32)

    @cached_property
    def bias(self) -> NDArray:
        """Mean bias of each pixel [ADU]: a slope, rows and columns."""
        rng = self._rng(1)
        ny, nx = self.shape
        rows = 1.5 * np.exp(-np.arange(ny) / 30)[:, None] + 0.5 * rng.standard_normal((ny, 1))
        columns = 1.5 * rng.standard_normal(nx) + 4 * np.linspace(-1, 1, nx)
        return (self.bias_adu + rows + columns).astype(np.float32)

    @cached_property
    def dark_current(self) -> NDArray:
        """Electrons per second of each pixel, some of them hot."""
        rng = self._rng(2)
        dark = self.dark_e_s * rng.lognormal(0, 0.3, self.shape)
        hot = rng.random(self.shape) < 2e-4
        dark[hot] += rng.pareto(1.5, hot.sum()) * 3 + 3
        return np.minimum(dark, 500).astype(np.float32)

    @property
    def adu_per_electron(self) -> float:
        """Conversion of photo-electrons of weak light."""
        return self.gain / self.electrons_per_adu

    def dark_adu(self, exposure_s: float) -> NDArray:
        """Return the expected frame without light [ADU]."""
        # charge born on the way through the register passes a part of it: of even odds along it
        born = self.spurious_e * ((self.gain - 1) / np.log(self.gain) if self.gain > 1 else 0.0)
        held = self.dark_current * exposure_s + self.induced_e * (self.gain > 1)
        return (self.bias + held * self.adu_per_electron + born / self.electrons_per_adu).astype(np.float32)

    def expose(self, light: NDArray, exposure_s: float, traps: NDArray, rng: np.random.Generator) -> NDArray:
        """Return a raw frame.

        Parameters
        ----------
        light : ndarray
            Expected photo-electrons per pixel of an even detector.
        exposure_s : float
            Exposure time [s].
        traps : ndarray
            Charge held since earlier frames [e], which is brought up to date.
        rng : numpy.random.Generator
            Of all that happens.

        Returns
        -------
        ndarray of uint16
            [ADU].
        """
        charge = rng.poisson(light * self.flat + self.dark_current * exposure_s).astype(float)
        charge += self._rays(exposure_s, rng) + self._released(charge, exposure_s, traps, rng)
        charge = np.minimum(charge, self.full_well_e)
        if self.gain > 1:
            charge += rng.poisson(self.induced_e, self.shape)
        charge = self._transferred(charge, rng)
        out = self.multiplied(charge, rng) if self.gain > 1 else charge
        adu = out / self.electrons_per_adu
        adu -= self.bent / 65535 * adu * np.abs(adu)
        adu += self.bias + self.wander_adu * rng.standard_normal()
        adu += self.stripes_adu * rng.standard_normal((self.shape[0], 1))
        adu += self.noise_e / self.electrons_per_adu * rng.standard_normal(self.shape)
        return np.clip(np.rint(adu), 0, 65535).astype(np.uint16)

    def multiplied(self, charge: NDArray, rng: np.random.Generator) -> NDArray:
        """Return charges behind the register [e], with what is born in it and left behind at its end."""
        out = np.zeros(charge.shape)
        some = charge > 0
        # what many stages of small odds make of n electrons, to a fraction of their number
        out[some] = rng.gamma(charge[some]) * self.gain
        born = rng.poisson(self.spurious_e, charge.shape)
        some = born > 0
        out[some] += rng.gamma(born[some]) * self.gain ** rng.random(np.count_nonzero(some))
        late = self.deferred_register * out
        out -= late
        out[:, 1:] += late[:, :-1]
        return out

    def _rays(self, exposure_s: float, rng: np.random.Generator) -> NDArray:
        """Return tracks of cosmic rays [e]: as much charge in each step through the silicon as chance has it."""
        tracks = np.zeros(self.shape)
        for _ in range(rng.poisson(self.rays_s * exposure_s * tracks.size / 2**20)):
            steps = 1 + int(rng.exponential(12))
            angle = rng.uniform(0, 2 * np.pi) + np.cumsum(0.03 * rng.standard_normal(steps))
            y = rng.uniform(0, self.shape[0]) + 0.5 * np.cumsum(np.sin(angle))
            x = rng.uniform(0, self.shape[1]) + 0.5 * np.cumsum(np.cos(angle))
            inside = (y >= 0) & (y < self.shape[0]) & (x >= 0) & (x < self.shape[1])
            deposit = np.minimum(rng.pareto(1.8, steps) * 150 + 150, 5000)
            np.add.at(tracks, (y[inside].astype(int), x[inside].astype(int)), np.rint(deposit[inside]))
        return tracks

    def _released(self, charge: NDArray, exposure_s: float, traps: NDArray, rng: np.random.Generator) -> NDArray:
        """Return what traps release [e], and fill them with the present charge."""
        free = 1 - np.exp(-exposure_s / self.release_s)
        released = rng.poisson(traps * free)
        traps *= 1 - free
        traps += self.trapped * charge
        return released

    def _transferred(self, charge: NDArray, rng: np.random.Generator) -> NDArray:
        """Return charges after the transfer of rows: some electrons stay behind, the more the farther the row."""
        odds = self.deferred * np.arange(1, self.shape[0] + 1)[:, None] / self.shape[0]
        late = rng.binomial(charge.astype(np.int64), np.broadcast_to(odds, self.shape))
        moved = charge - late
        moved[1:] += late[:-1]
        return moved

    def _rng(self, purpose: int) -> np.random.Generator:
        return np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=(9, purpose)))


@njit(cache=True)
def through_stages(electrons, gain, stages, rng):  # type: ignore[no-untyped-def]
    """Return electrons that each stage of a register multiplied by chance, one stage at a time: slow, and exact."""
    odds = gain ** (1 / stages) - 1
    out = np.empty_like(electrons)
    for i in range(electrons.size):
        n = electrons[i]
        for _ in range(stages):
            n += rng.binomial(n, odds)
        out[i] = n
    return out
