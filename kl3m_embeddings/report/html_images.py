"""Plots for a page that stands alone: few colours, as text in the page itself.

A plot has some ten colours and their shades; 64 of them look the same and take a third of the
space. matplotlib writes PNG through Pillow, so Pillow is there.
"""

import base64
import io
from pathlib import Path

from PIL import Image

from kl3m_embeddings.report.html_blocks import Picture

NUM_COLOURS = 64
WIDTH_PX = 1400


def picture(path: Path) -> Picture:
    """The PNG at `path`, with the headline that its metadata have."""
    with Image.open(path) as image:
        headline = str(image.info.get("Title", ""))
        height = round(image.height * WIDTH_PX / image.width)
        small = image.convert("RGB").resize((WIDTH_PX, height), Image.Resampling.LANCZOS)
    coded = io.BytesIO()
    small.quantize(NUM_COLOURS, dither=Image.Dither.NONE).save(coded, format="PNG", optimize=True)
    uri = "data:image/png;base64," + base64.b64encode(coded.getvalue()).decode("ascii")
    return Picture(path.name, headline, uri, WIDTH_PX, height)
