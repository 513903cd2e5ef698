"""Cosmic rays are removed, stars are left alone."""

import numpy as np
import pytest

from obsarchive.science.imaging.cosmics import (
    common_signal,
    without_cosmic_rays,
    without_cosmic_rays_drizzled,
    without_cosmic_rays_unaligned,
)
from obsarchive.science.imaging.drizzle import Drizzle


def field(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Stars with noise, and where cosmic rays hit."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:120, :140]
    image = 100 + 5 * rng.standard_normal(y.shape)
    for sy, sx, peak in ((30, 40, 4000), (80.4, 100.3, 900), (90, 30, 100)):
        image += peak * np.exp(-((y - sy) ** 2 + (x - sx) ** 2) / (2 * 1.6**2))
    hits = np.zeros(y.shape, bool)
    for _ in range(30):
        cy, cx = rng.integers(5, 110), rng.integers(5, 130)
        if np.hypot(cy - np.array([30, 80, 90]), cx - np.array([40, 100, 30])).min() > 12:
            hits[cy, cx : cx + rng.integers(1, 4)] = True
    image[hits] += rng.uniform(200, 3000, hits.sum())
    return image.astype(np.float32), hits


def test_cosmic_rays_are_found_and_replaced() -> None:
    image, hits = field(1)
    clean, found = without_cosmic_rays(image)
    assert found[hits].mean() > 0.97
    assert abs(clean[hits] - 100).max() < 60


@pytest.mark.parametrize("depth", range(4))
def test_cosmic_rays_at_the_border_are_found(depth: int) -> None:
    image = 100 + 5 * np.random.default_rng(depth).standard_normal((120, 140)).astype(np.float32)
    ny, nx = image.shape
    places = [(depth, 50), (ny - 1 - depth, 70), (60, depth), (30, nx - 1 - depth), (depth, depth)]
    hits = np.zeros(image.shape, bool)
    hits[tuple(np.transpose(places))] = True
    image[hits] += 2000
    clean, found = without_cosmic_rays(image)
    assert found[hits].all()
    assert np.count_nonzero(found[~hits]) <= 2  # neighbours, which need less
    assert abs(clean - 100).max() < 30


def test_stars_are_left_alone() -> None:
    image, hits = field(2)
    clean, found = without_cosmic_rays(image)
    assert not (found & ~hits)[20:40, 30:50].any()
    np.testing.assert_allclose(clean[25:35, 35:45], image[25:35, 35:45], rtol=1e-6)


def test_unknown_pixels_stay_unknown_and_odd_images_are_returned() -> None:
    image, _ = field(3)
    image[:10] = np.nan
    clean, found = without_cosmic_rays(image)
    assert np.isnan(clean[:10]).all()
    assert not found[:10].any()
    for odd in (np.full((20, 20), np.nan), np.zeros((20, 20)), np.ones((3, 3)), np.ones((1, 40))):
        same, none = without_cosmic_rays(odd)
        np.testing.assert_array_equal(same, odd)
        assert not none.any()


def test_cosmic_rays_of_a_drizzled_stack() -> None:
    """Frames on slightly different places, a ray in each: the stack is that of the frames without rays."""
    rng = np.random.default_rng(4)
    y, x = np.mgrid[:80, :90]
    dirty, pure = Drizzle((80, 90), 2, 0.6), Drizzle((80, 90), 2, 0.6)
    for _ in range(25):
        dy, dx = rng.uniform(-2, 2, 2)
        star = 800 * np.exp(-((y - 40 + dy) ** 2 + (x - 45 + dx) ** 2) / (2 * 1.6**2))
        frame = (100 + star + rng.normal(0, 5, y.shape)).astype(np.float32)
        pure.add(frame, dy, dx)
        row, column = rng.integers(4, 30), rng.integers(4, 86)
        frame[row, column : column + 2] += 3000
        dirty.add(frame, dy, dx)
    expected, noise = pure.image(), np.nanstd(pure.image()[10:40])
    clean, hit = without_cosmic_rays_drizzled(dirty.image(), 2)
    inner = np.s_[8:-8, 8:-8]
    before, after = (np.abs(image - expected)[inner].max() for image in (dirty.image(), clean))
    assert before > 40 * noise
    assert after < 0.15 * before
    assert not hit[76:86, 86:96].any()


def test_a_sharp_star_of_a_drizzled_stack_that_all_frames_show_is_left_alone() -> None:
    rng = np.random.default_rng(6)
    y, x = np.indices((80, 90))
    pure, dirty = Drizzle((80, 90), 2, 0.6), Drizzle((80, 90), 2, 0.6)
    sums = np.zeros((5, 80, 90))
    for i in range(25):
        star = 5e5 * np.exp(-((y - 40) ** 2 + (x - 45) ** 2) / (2 * 0.5**2))
        frame = (100 + star + rng.normal(0, 5, y.shape)).astype(np.float32)
        pure.add(frame, 0.0, 0.0)
        if i == 7:
            frame[20, 30:33] += 3e4
        dirty.add(frame, 0.0, 0.0)
        sums[i % 5] += frame / 5
    assert without_cosmic_rays_drizzled(pure.image(), 2)[1][70:90, 80:100].any()  # what would happen to the star
    clean, hit = without_cosmic_rays_drizzled(dirty.image(), 2, lambda: common_signal(iter(sums), np.zeros((5, 2))))
    assert not hit[70:90, 80:100].any()
    assert hit[40:42, 60:66].all()
    np.testing.assert_allclose(clean[70:90, 80:100], pure.image()[70:90, 80:100])


def test_sharp_stars_that_other_exposures_show_are_left_alone() -> None:
    rng = np.random.default_rng(3)
    shape, sigma = (200, 200), 0.8
    y, x = rng.uniform(8, 191, (2, 60))
    light = 10 ** rng.uniform(3, 5, 60)
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    shifts = np.array([[0.0, 0.0], [3.3, -2.4], [-1.7, 4.6]])
    frames, hits = [], []
    for dy, dx in shifts:
        frame = rng.normal(300, 15, shape)
        for sy, sx, total in zip(y - dy, x - dx, light, strict=True):
            frame += total / (2 * np.pi * sigma**2) * np.exp(-((rows - sy) ** 2 + (columns - sx) ** 2) / 2 / sigma**2)
        places = rng.integers(5, 195, (2, 40))
        frame[places[0], places[1]] += 4000
        frames.append(frame.astype(np.float32))
        hits.append(places)
    common = common_signal(iter(frames), shifts)
    clean, _ = without_cosmic_rays(frames[0], elsewhere=common)
    bare, _ = without_cosmic_rays(frames[0])

    def kept(image: np.ndarray) -> np.ndarray:
        sums = [image[int(sy) - 4 : int(sy) + 6, int(sx) - 4 : int(sx) + 6].sum() - 300 * 100 for sy, sx in stars]
        return np.array(sums) / bright

    inside = (y > 12) & (x > 12) & (y < 185) & (x < 185) & (light > 2e4)
    isolated = np.array([np.sort(np.hypot(y - sy, x - sx))[1] > 12 for sy, sx in zip(y, x, strict=True)])
    hit = np.array([(np.hypot(hits[0][0] - sy, hits[0][1] - sx) < 9).any() for sy, sx in zip(y, x, strict=True)])
    chosen = inside & isolated & ~hit
    stars, bright = list(zip(y[chosen], x[chosen], strict=True)), light[chosen]
    assert chosen.sum() >= 4
    assert kept(clean) == pytest.approx(1.0, abs=0.03)
    assert np.median(kept(bare)) < 0.9  # what would happen to them without the other exposures
    removed = clean[hits[0][0], hits[0][1]] < 1500
    assert removed.mean() > 0.85


@pytest.mark.parametrize(("sigma_px", "is_cleaned"), [(0.45, False), (0.6, False), (1.0, True), (1.6, True)])
def test_stars_of_windows_that_are_not_aligned_stay(sigma_px: float, is_cleaned: bool) -> None:
    rng, windows, truth = np.random.default_rng(3), [], []
    y, x = np.mgrid[:64, :64]
    for i in range(2):
        image = 100 + 5 * rng.standard_normal(y.shape)
        for star_y, star_x, flux in ((31 + 0.5 * i, 33, 40000), (44 + 0.5 * i, 20.3, 20000)):
            profile = np.exp(-((y - star_y) ** 2 + (x - star_x) ** 2) / (2 * sigma_px**2))
            image += flux * profile / (2 * np.pi * sigma_px**2)
        truth.append(image.astype(np.float32))
        windows.append(truth[-1].copy())
        windows[-1][15 + 7 * i : 18 + 7 * i, 40] += 30000
    clean = without_cosmic_rays_unaligned(windows)
    for found, seen, bare in zip(clean, windows, truth, strict=True):
        assert np.abs(found - (bare if is_cleaned else seen)).max() < 50


def test_where_two_of_many_exposures_overlap_neither_confirms_its_own_cosmic_rays() -> None:
    frames = [np.zeros((40, 40), np.float32) for _ in range(5)]
    frames[3][30, 20] = 4000
    # what is beyond row 24 is seen by the last two alone, beyond row 34 by the last one
    common = common_signal(iter(frames), np.array([[-16, 0], [-16, 0], [-16, 0], [-6, 0], [0, 0]]))
    assert common[24, 20] == 0
    assert np.isfinite(common).all()


def test_parts_of_an_image_give_what_the_whole_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(2)
    shape, (rows, columns) = (260, 310), np.indices((260, 310))
    image = np.full(shape, 300.0)
    for y, x, peak in zip(rng.uniform(0, 260, 30), rng.uniform(0, 310, 30), np.geomspace(100, 2e4, 30), strict=True):
        image += peak * np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / (2 * 1.1**2))
    frames = [rng.poisson(image).astype(np.float32) for _ in range(4)]
    common = common_signal(iter(frames[1:]), np.zeros((3, 2)))
    frame = frames[0]
    for y, x in zip(rng.integers(0, 250, 12), rng.integers(0, 300, 12), strict=True):
        frame[y : y + 2, x : x + rng.integers(1, 9)] += rng.uniform(200, 5000)
    frame[:, 200] = np.nan
    parts = without_cosmic_rays(frame, elsewhere=common)
    monkeypatch.setattr("obsarchive.science.imaging.cosmics.TILE_PX", 1000)
    for part, whole in zip(parts, without_cosmic_rays(frame, elsewhere=common), strict=True):
        np.testing.assert_array_equal(part, whole)
    assert parts[1].sum() > 40
