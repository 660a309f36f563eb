"""Speed and memory as a step grows."""

from kl3m_embeddings.report.plots.growth import growth_figure
from kl3m_embeddings.report.plots.style import styled

MACHINE = {
    "hardware": {"device_name": "a processor", "num_threads": 2}, "versions": {"torch": "2.15"},
}  # fmt: skip


def test_a_panel_for_each_axis_that_was_measured():
    rows = [
        {"axis": axis, "size": size, "tokens_per_s": 1000 / size, "peak_memory_gb": size / 4}
        for axis in ("length", "batch")
        for size in (4, 8)
    ]
    with styled():
        figure = growth_figure(rows, MACHINE)
    speeds, memories = figure.axes[::2], figure.axes[1::2]
    assert [axes.get_xlabel() for axes in speeds] == [
        "rows of a batch", "tokens of a row (as many in the batch)",
    ]  # fmt: skip
    for speed, memory in zip(speeds, memories, strict=True):
        assert list(speed.lines[0].get_xdata()) == [4, 8]
        assert list(speed.lines[0].get_ydata()) == [250, 125]
        assert list(memory.lines[0].get_ydata()) == [1, 2]
        assert (speed.get_ylim(), memory.get_ylim()) == ((0, 280), (0, 2.24))
    assert "a processor, 2 threads, torch 2.15" in figure.texts[1].get_text()
