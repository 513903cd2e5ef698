"""A picture that is drawn on: one byte per pixel, coloured by its palette.

The bytes are missing pixels, black to white, then the accent colour of marks: text and lines blend in that scale, and
the PNG is small and quick to write.
"""

import io
import math
import zlib
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from obsarchive.figures.image_scaling import BLACK, OUTLINE, WHITE, Bytes, Point

_TONES = np.array([(0, 4, 5, 8), (20, 36, 39, 47), (50, 112, 113, 119), (75, 186, 183, 178), (100, 255, 252, 244)])
"""Place [%], red, green, blue: cool shadows, warm lights."""

_NO_DATA_COLOUR, _ACCENT_COLOUR = np.array([20, 27, 40]), np.array([86, 180, 233])
_SUPERSAMPLING = 4
"""Lines at an angle are drawn this much larger and averaged."""


class Canvas:
    """A picture in two layers: tones as of `tone_bytes`, and how much of the accent colour covers each pixel.

    Parameters
    ----------
    tones : ndarray of uint8, shape (size, size)
        Bytes of the image.
    """

    def __init__(self, tones: Bytes) -> None:
        self.tones = Image.fromarray(np.ascontiguousarray(tones))
        self.accent = Image.new("L", self.tones.size)
        self.size = self.tones.width
        self.line = max(1, round(self.size / 500))

    def frame(self, edges: tuple[float, float, float, float]) -> None:
        """Draw a rectangle (left, top, right, bottom) in the accent colour."""
        # Pillow fails on large numbers; how far outside the picture an edge lies makes no difference.
        left, top, right, bottom = (round(min(max(edge, -9.0), self.size + 9.0)) for edge in edges)
        outer = (left - 1, top - 1, right + 1, bottom + 1)
        ImageDraw.Draw(self.tones).rectangle(outer, outline=OUTLINE, width=self.line + 2)
        ImageDraw.Draw(self.accent).rectangle((left, top, right, bottom), outline=255, width=self.line)

    def bar(self, corners: tuple[int, int, int, int]) -> None:
        """Draw a filled white rectangle (left, top, right, bottom), corners included."""
        left, top, right, bottom = corners
        edge, draw = self.line, ImageDraw.Draw(self.tones)
        draw.rectangle((left - edge, top - edge, right + edge, bottom + edge), OUTLINE)
        draw.rectangle(corners, WHITE)

    def circle(self, centre_xy: Point, radius_px: float) -> None:
        """Draw a ring in the accent colour.

        Parameters
        ----------
        centre_xy : (float, float)
            Centre (x, y) from the top left corner of the picture [pixel].
        radius_px : float
            Radius [pixel].
        """
        patch, draw, middle = _patch(radius_px + 2 * self.line)
        draw.circle((middle, middle), radius_px * _SUPERSAMPLING, outline=255, width=self.line * _SUPERSAMPLING)
        self._stamp(patch, centre_xy, self.accent, 255)

    def arrows(self, origin_xy: Point, directions: tuple[Point, ...], length_px: float) -> None:
        """Draw white arrows from one point.

        Parameters
        ----------
        origin_xy : (float, float)
            Common origin (x, y) from the top left corner of the picture [pixel].
        directions : tuple of (float, float)
            Unit vectors (right, down).
        length_px : float
            Length of the arrows [pixel].
        """
        patch, draw, middle = _patch(length_px + 2 * self.line)
        width, length = 1.4 * self.line * _SUPERSAMPLING, length_px * _SUPERSAMPLING
        neck, side = length - 5 * width, 1.9 * width
        for dx, dy in directions:
            corners = ((length, 0.0), (neck, side), (neck, -side))
            draw.line((middle, middle, middle + dx * neck, middle + dy * neck), 255, round(width))
            draw.polygon([(middle + dx * a - dy * b, middle + dy * a + dx * b) for a, b in corners], 255)
        draw.circle((middle, middle), width / 2, 255)
        self._stamp(patch, origin_xy, self.tones, WHITE)

    def text(self, xy: Point, text: str, font: ImageFont.FreeTypeFont, anchor: str, *, accent: bool = False) -> None:
        """Write a line with a dark outline.

        Parameters
        ----------
        xy : (float, float)
            Position (x, y) of the anchor from the top left corner of the picture [pixel].
        text : str
            Line breaks become spaces.
        font : FreeTypeFont
            As given by `font`.
        anchor : str
            Which point of the line stands at `xy`, two letters as Pillow defines them: ``la`` for left, ascender.
        accent : bool
            Write in the accent colour instead of white.
        """
        line, draw, ink = " ".join(text.split()), ImageDraw.Draw(self.tones), OUTLINE if accent else WHITE
        draw.text(xy, line, ink, font, anchor, stroke_width=max(1, self.line - 1), stroke_fill=OUTLINE)
        if accent:
            ImageDraw.Draw(self.accent).text(xy, line, 255, font, anchor)

    def font(self, height: float, *, bold: bool = False) -> ImageFont.FreeTypeFont:
        """Return a font, at least 10 pixels high to be legible.

        Parameters
        ----------
        height : float
            Height as a fraction of the picture's side.
        bold : bool
            Bold instead of regular.

        Returns
        -------
        FreeTypeFont
            For `text`.
        """
        return _font("DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf", max(10, round(height * self.size)))

    def png(self) -> bytes:
        """Return the picture as a PNG."""
        pixels, accent = np.array(self.tones), np.asarray(self.accent)
        marked = accent > 0
        pixels[marked] = WHITE + 1 + accent[marked] // 8
        picture = Image.fromarray(pixels)
        picture.putpalette(_palette())
        file = io.BytesIO()
        picture.save(file, "PNG", compress_level=1, compress_type=zlib.Z_RLE)  # noise has no patterns to look for
        return file.getvalue()

    def _stamp(self, patch: Image.Image, centre_xy: Point, layer: Image.Image, ink: int) -> None:
        """Reduce an enlarged mask to its size and draw it, with a dark outline."""
        mask = patch.reduce(_SUPERSAMPLING)
        corner = (round(centre_xy[0] - mask.width / 2), round(centre_xy[1] - mask.height / 2))
        self.tones.paste(OUTLINE, corner, mask.filter(ImageFilter.MaxFilter(2 * self.line + 1)))
        layer.paste(ink, corner, mask)


def shortened(text: str, font: ImageFont.FreeTypeFont, room_px: float) -> str:
    """Return a line cut to a width, with an ellipsis where something was cut.

    Parameters
    ----------
    text : str
        Line breaks become spaces.
    font : FreeTypeFont
        With which it is written.
    room_px : float
        Greatest width [pixel].

    Returns
    -------
    str
        The line, perhaps shortened.
    """
    line = " ".join(text.split())
    if font.getlength(line) <= room_px:
        return line
    while line and font.getlength(line + "…") > room_px:
        line = line[:-1]
    return line + "…"


def _patch(radius_px: float) -> tuple[Image.Image, ImageDraw.ImageDraw, int]:
    """Enlarged empty mask, its drawing context, and the coordinate of its middle."""
    middle = math.ceil(radius_px) * _SUPERSAMPLING
    patch = Image.new("L", (2 * middle, 2 * middle))
    return patch, ImageDraw.Draw(patch), middle


@cache
def _font(name: str, size: int) -> ImageFont.FreeTypeFont:
    import matplotlib as mpl  # late: it comes with the fonts, but is large

    # The basic layout engine is the same on all systems, so that pictures are, too.
    path = Path(mpl.get_data_path(), "fonts", "ttf", name)
    return ImageFont.truetype(path, size, layout_engine=ImageFont.Layout.BASIC)


@cache
def _palette() -> bytes:
    """Red, green, blue of every byte: no data, outline, tones, and from the outline to the accent colour."""
    places = np.linspace(0, 100, WHITE - BLACK + 1)
    tones = np.column_stack([np.interp(places, _TONES[:, 0], channel) for channel in _TONES[:, 1:].T])
    accent = np.linspace(tones[0], _ACCENT_COLOUR, 255 - WHITE)
    colours: Bytes = np.rint(np.vstack([_NO_DATA_COLOUR, tones[0], tones, accent])).astype(np.uint8)
    return colours.tobytes()
