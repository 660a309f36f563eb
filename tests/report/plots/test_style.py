"""Layout: labels never overlap, legends stay inside, files are whole."""

import errno
from itertools import pairwise

import matplotlib as mpl  # noqa: TID251
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kl3m_embeddings.errors import OutputError
from kl3m_embeddings.files.whole import whole_file
from kl3m_embeddings.report.plots import style

PLACES = st.lists(st.floats(0, 1), max_size=12).map(sorted)


@given(PLACES, st.floats(0.001, 0.3))
def test_spread_keeps_order_gap_and_range(wanted, gap):
    places = style.spread(wanted, gap)
    assert len(places) == len(wanted)
    assert all(-1e-9 <= place <= 1 + 1e-9 for place in places)
    room = min(gap, 1 / max(1, len(wanted) - 1))
    assert all(b - a >= room - 1e-9 for a, b in pairwise(places))


@given(st.lists(st.floats(0, 1), min_size=1, max_size=5, unique=True).map(sorted))
def test_spread_leaves_labels_with_room_where_they_are(wanted):
    gap = min([1, *(b - a for a, b in pairwise(wanted))])
    assert style.spread(wanted, gap * 0.99) == pytest.approx(wanted)


def test_labels_do_not_overlap_on_the_canvas():
    with style.styled():
        figure = style.new_figure("title", "subtitle")
        [axes] = style.place(figure)
        style.value_axis(axes, "y", 0, 10)
        values = [1, 1, 1.01, 1.02, 9, 9.0001]
        style.label_right(axes, [style.Label(y, f"name {y}", style.BLUE) for y in values])
        figure.canvas.draw()
        boxes = sorted((text.get_window_extent() for text in axes.texts), key=lambda box: box.y0)
    assert all(a.y1 <= b.y0 for a, b in pairwise(boxes))
    assert all(box.x1 <= figure.bbox.x1 for box in boxes)


@pytest.mark.parametrize("num_entries", [1, 4, 7])
def test_the_legend_stays_inside_the_figure(num_entries):
    with style.styled():
        figure = style.new_figure("title", "subtitle")
        [axes] = style.place(figure)
        for index in range(num_entries):
            axes.plot([0, 1], [0, 1], label=f"a fairly long name {index}")
        style.legend(axes)
        box = axes.get_legend().get_window_extent()
    assert box.x1 < figure.bbox.x1
    assert box.y1 < figure.texts[1].get_window_extent().y0


def test_ticks_of_a_short_stretch_differ():
    with style.styled():
        figure = style.new_figure("title", "subtitle")
        [axes] = style.place(figure)
        style.step_axis(axes, 1_000_000, 1_000_500)
        figure.canvas.draw()
        ticks = [label.get_text() for label in axes.get_xticklabels()]
    assert len(set(ticks)) == len(ticks)


def test_scales():
    assert style.spans_scales(pl.Series([0.1, 5.0]))
    assert not style.spans_scales(pl.Series([1.0, 5.0]))
    assert not style.spans_scales(pl.Series([0.0, 5.0]))
    assert not style.spans_scales(pl.Series([1.0] * 50 + [1e9]))


def test_saving_replaces_whole_files_or_none(tmp_path):
    path = tmp_path / "new" / "plot.png"
    with style.styled():
        figure = style.new_figure("$a_b^ 日本語", "subtitle")
        style.save(figure, path)
    assert path.read_bytes().startswith(b"\x89PNG")
    assert [entry.name for entry in path.parent.iterdir()] == ["plot.png"]
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"file: cannot be written: .*--out") as error:
        style.save(figure, tmp_path / "file" / "plot.png")
    assert error.value.exit_code == 73


def test_a_file_that_fails_half_way_leaves_the_old_one(tmp_path):
    path = tmp_path / "stats.json"
    path.write_text("old")
    with pytest.raises(OutputError, match="No space"), whole_file(path) as temporary:
        temporary.write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device")
    assert [entry.name for entry in tmp_path.iterdir()] == ["stats.json"]
    assert path.read_text() == "old"


def test_the_style_leaves_no_trace():
    before = dict(mpl.rcParams)
    with style.styled():
        assert dict(mpl.rcParams) != before
    assert dict(mpl.rcParams) == before
