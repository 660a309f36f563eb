"""Plots in a page: small, white where they were, with their headline."""

import base64
import io

from PIL import Image

from kl3m_embeddings.report.html.images import NUM_COLOURS, picture
from kl3m_embeddings.report.plots.style import BLUE, new_figure, place, save, styled


def test_a_picture_holds_the_plot_and_its_headline(tmp_path):
    path = tmp_path / "plot.png"
    with styled():
        figure = new_figure("A headline", "subtitle")
        place(figure)[0].plot([0, 1], [0, 1], color=BLUE, linewidth=20)
        save(figure, path)
    found = picture(path)
    assert (found.name, found.headline) == ("plot.png", "A headline")
    start, coded = found.uri.split(",")
    image = Image.open(io.BytesIO(base64.b64decode(coded)))
    assert start == "data:image/png;base64"
    with Image.open(path) as plot:
        assert image.size == (found.width, found.height) == plot.size
    colours = {colour for _, colour in image.convert("RGB").getcolors()}
    assert (255, 255, 255) in colours and len(colours) <= NUM_COLOURS
    blue = tuple(int(BLUE[start : start + 2], 16) for start in (1, 3, 5))
    assert any(max(abs(a - b) for a, b in zip(one, blue, strict=True)) < 8 for one in colours)
    assert len(coded) < path.stat().st_size
