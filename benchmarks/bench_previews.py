"""Time the previews of an observation against matplotlib drawing the same pictures at the same numbers of pixels.

``python benchmarks/bench_previews.py`` prints the table: processor time of one thread, best of several runs. The peer
is matplotlib at its fastest: object interface, Agg, its own inverse hyperbolic sine norm, weakest PNG compression.
"""

import io
import time
from collections.abc import Callable
from datetime import UTC, datetime

import numpy as np
from matplotlib.colors import AsinhNorm
from matplotlib.figure import Figure
from mpl_toolkits.axes_grid1.anchored_artists import AnchoredSizeBar

from obsarchive.figures.image_scaling import Box, levels
from obsarchive.figures.previews import Labels, Sky, preview_cropped, preview_full, thumbnail

SIDE, BOX_PX, REPEATS = 2048, 400, 7
FULL_PX, CROPPED_PX, THUMBNAIL_PX = 1200, 800, 240
SKY = Sky(0.01735)
LABELS = Labels("351_Yrsa", "lp600", datetime(2016, 9, 25, 11, 4, 27, tzinfo=UTC), 90.0, 12.3)


def star() -> np.ndarray:
    """A star with core and halo in the noise of the sky, shape (SIDE, SIDE)."""
    y, x = np.ogrid[:SIDE, :SIDE]
    radius = np.hypot(y - SIDE / 2, x - SIDE / 2)
    image = np.random.default_rng(0).normal(600, 30, (SIDE, SIDE))
    return (image + 1e6 * np.exp(-((radius / 4) ** 2)) + 5e4 / (1 + (radius / 25) ** 2) ** 2).astype(np.float32)


def drawn_by_matplotlib(image: np.ndarray, side_px: int, size_px: int, annotate: bool) -> bytes:
    """The same part of the image as one of our pictures."""
    start = (SIDE - side_px) // 2
    part = image[start : start + side_px, start : start + side_px]
    black, white = np.percentile(image[::8, ::8], 5), float(part.max())
    figure = Figure(figsize=(size_px / 100, size_px / 100), dpi=100)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.axis("off")
    norm = AsinhNorm(linear_width=100, vmin=black, vmax=white)
    axes.imshow(part, norm=norm, cmap="gray", origin="lower", interpolation="bicubic" if size_px > side_px else None)
    if annotate:
        for i, line in enumerate((*LABELS.lines, LABELS.strehl)):
            axes.text(0.03, 0.97 - 0.03 * i, line, color="white", transform=axes.transAxes)
        bar = AnchoredSizeBar(
            axes.transData, 1 / SKY.plate_scale_arcsec, "1″", "lower left", color="white", frameon=False
        )
        axes.add_artist(bar)
        for tip in ((0.95, 0.12), (0.88, 0.05)):
            arrow = {"arrowstyle": "->", "color": "white"}
            axes.annotate("", tip, (0.95, 0.05), xycoords="axes fraction", arrowprops=arrow)
    file = io.BytesIO()
    figure.savefig(file, dpi=100, pil_kwargs={"compress_level": 1})
    return file.getvalue()


def cases(image: np.ndarray) -> dict[str, tuple[Callable[[], object], Callable[[], object] | None]]:
    """Name of each case, ours and the peer's."""
    centre = (SIDE / 2, SIDE / 2)
    pictures: dict[str, tuple[Callable[[], object], Callable[[], object] | None]] = {
        f"full, {SIDE}² to {FULL_PX}²": (
            lambda: preview_full(image, SKY, LABELS, crop_box=Box(centre, BOX_PX), size_px=FULL_PX),
            lambda: drawn_by_matplotlib(image, SIDE, FULL_PX, annotate=True),
        ),
        f"cropped, {BOX_PX}² to {CROPPED_PX}²": (
            lambda: preview_cropped(image, SKY, centre, BOX_PX, LABELS, size_px=CROPPED_PX),
            lambda: drawn_by_matplotlib(image, BOX_PX, CROPPED_PX, annotate=True),
        ),
        f"thumbnail, {BOX_PX}² to {THUMBNAIL_PX}²": (
            lambda: thumbnail(image, SKY, centre, BOX_PX, THUMBNAIL_PX),
            lambda: drawn_by_matplotlib(image, BOX_PX, THUMBNAIL_PX, annotate=False),
        ),
    }
    ours, peers = zip(*pictures.values(), strict=True)
    pictures["preview set"] = (lambda: [draw() for draw in ours], lambda: [draw() for draw in peers])
    pictures["of which levels of the stretch, once"] = (lambda: levels(image), None)
    return pictures


def best_ms(draw: Callable[[], object]) -> float:
    """Shortest processor time of several runs [ms]."""
    draw()
    times = []
    for _ in range(REPEATS):
        start = time.process_time()
        draw()
        times.append(time.process_time() - start)
    return 1e3 * min(times)


def table() -> str:
    """Markdown table of all cases; the goal is 8 for the whole set."""
    rows = ["| picture | ours [ms] | matplotlib savefig [ms] | ratio |", "|---|---|---|---|"]
    for name, (ours, peer) in cases(star()).items():
        mine = best_ms(ours)
        theirs = best_ms(peer) if peer else None
        rows.append(f"| {name} | {mine:.1f} | " + (f"{theirs:.1f} | {theirs / mine:.1f} |" if theirs else " | |"))
    return "\n".join(rows)


if __name__ == "__main__":
    print(table())
