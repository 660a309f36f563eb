"""Plots for a page that stands alone: few colours, as text in the page itself.

A plot has some ten colours and their shades; 64 of them look the same and take a third of the
space. matplotlib writes PNG through Pillow, so Pillow is there.
"""

import base64
import io
from pathlib import Path

from PIL import Image

from kl3m_embeddings.report.html.blocks import Picture

NUM_COLOURS = 64
NEARLY_WHITE = 252
FAST_ENOUGH = 6  # of 9: smaller ones take twice the time for a tenth of the space


def picture(path: Path) -> Picture:
    """The PNG at `path`, with the headline that its metadata have."""
    with Image.open(path) as image:
        headline = str(image.info.get("Title", ""))
        small = image.convert("RGB").quantize(
            NUM_COLOURS, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE
        )
    # white comes out a shade darker, which shows on a white page
    small.putpalette([255 if part >= NEARLY_WHITE else part for part in small.getpalette() or []])
    coded = io.BytesIO()
    small.save(coded, format="PNG", compress_level=FAST_ENOUGH)
    uri = "data:image/png;base64," + base64.b64encode(coded.getvalue()).decode("ascii")
    return Picture(path.name, headline, uri, *small.size)
