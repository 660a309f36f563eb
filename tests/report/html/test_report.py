"""The report: complete, standing alone, and nothing in it but text from hostile files."""

import base64
import io
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from PIL import Image

from kl3m_embeddings.report.html.report import write_comparison_report, write_run_report
from kl3m_embeddings.report.plots.all_plots import draw_all
from kl3m_embeddings.report.plots.comparison import compare_plots
from kl3m_embeddings.report.read.run import read_run
from kl3m_embeddings.report.statistics.run_statistics import describe_run
from tests.report.logs import log_row, pair_eval_row, pair_row, write_lines, write_run
from tests.report.measured import (
    baseline_row,
    compared_row,
    probe_eval_row,
    query_row,
    score_row,
    spectrum_rows,
    write_measured,
)

HOSTILE = (
    "<script>alert(1)</script>\"'><img src=x onerror=y></style></title><!-- ]]>{{7*7}}{% x %}"
    "\x00\x1b[31m\u202e\u2066\ud800&lt;[bold]\n\\"
)


class Parsed(HTMLParser):
    """The elements of a page with their attributes, and its text."""

    def __init__(self, html):
        super().__init__(convert_charrefs=True)
        self.elements, self.text, self.open = [], [], []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, tuple(attributes)))
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)

    def handle_comment(self, data):
        raise AssertionError(f"a comment: {data}")


def report(folder, name, out="out"):
    """Write the report of a run with everything, each name in it `name`."""
    rows = [log_row(step, task=name, samples_by_dataset={name: 1}) for step in range(1, 31)]
    rows += [pair_row(step, task=f"pair{name}") for step in range(31, 61)]

    def evals(step):
        probe, pairs = {f"tasks/{name}/ap": step / 60, f"svd_{name}": 1.0}, {f"{name}/ap": 0.5}
        return probe_eval_row(step) | probe | pairs

    write_run(folder, rows=rows, evals=evals)
    start = {
        "event": name, "time": name, "command": [name], "hardware": {name: name},
        "versions": {name: name}, "training": {name: {name: [name]}}, "config": {name: [{name: 1}]},
    }  # fmt: skip
    changed = {**start, "versions": {name: "2", "y": name}}
    write_lines(folder / "run.jsonl", [{"step": 0, **start}, {"step": 9, **changed}])
    kinds = {"type": name, "split": name, "subset": name, "metric": name, "revision": name}
    scores = [
        row(task, **kinds, **more)
        for task in (name, f"2{name}")
        for row, more in (
            (score_row, {"model": name}),
            (score_row, {"model": name, "dim": 32, "dtype": "float32"}),
            (score_row, {"model": name, "step": 1}),
            (baseline_row, {"model": f"b{name}"}),
        )
    ]
    scores.append(compared_row(name, 0.5, 0.1, **kinds, model=name) | {"compared_with": name})
    scores.append(score_row("lost", **kinds, model=name, error=name) | {"score": None})
    query = query_row(name, model=name, task=name)
    query["neighbours"][0]["text"] = name
    spectra = [
        {**row, "model": name, "name": f"{name}.{n}"} for n, row in enumerate(spectrum_rows())
    ]
    write_measured(folder, scores, [query], spectra)
    return write(folder, folder / out, name=name)


def write(log, out, **changes):
    run = read_run(log)
    statistics = replace(describe_run(run), **changes)
    pngs, missing = draw_all(run, 5, out)
    statistics = replace(statistics, notes=[*statistics.notes, *missing])
    return write_run_report(run, statistics, pngs, out)


def without_pictures(parsed):
    """All elements; of attributes with text, only that they are there."""
    texts = ("src", "alt", "aria-label", "height")
    return [
        (tag, tuple((key, None if key in texts else value) for key, value in attributes))
        for tag, attributes in parsed.elements
    ]


@pytest.mark.filterwarnings("ignore:Glyph")
@pytest.mark.slow
def test_hostile_text_is_text(tmp_path):
    tame, wild = (
        Parsed(report(tmp_path / place, name).read_text(encoding="utf-8"))
        for place, name in (("a", "tame"), ("b", HOSTILE))
    )
    assert without_pictures(wild) == without_pictures(tame)
    assert (tame.open, wild.open) == ([], [])
    text = "".join(wild.text)
    assert text.count("<script>alert(1)</script>") > 20
    assert "49" not in re.findall(r"onerror=y.{0,80}?(\d+)", text)
    assert not [one for one in text if not one.isprintable() and one != "\n"]
    assert [tag for tag, _ in wild.elements if tag in ("script", "iframe", "object", "link")] == []


def test_the_page_needs_nothing_else(tmp_path):
    write_measured(tmp_path)
    path = write(write_run(tmp_path, evals=probe_eval_row), tmp_path)
    html = path.read_text(encoding="utf-8")
    parsed = Parsed(html)
    addresses = [
        value
        for _, attributes in parsed.elements
        for key, value in attributes
        if key in ("src", "href", "action", "srcset", "data", "style") or key.startswith("on")
    ]
    ids = {value for _, attributes in parsed.elements for key, value in attributes if key == "id"}
    assert {value[1:] for value in addresses if value[0] == "#"} <= ids
    pictures = [value for value in addresses if value[0] != "#"]
    assert len(pictures) == len(list(tmp_path.glob("*.png"))) == 10
    for uri in pictures:
        start, coded = uri.split(",")
        assert start == "data:image/png;base64"
        image = Image.open(io.BytesIO(base64.b64decode(coded)))
        assert image.getpixel((0, 0)) == image.getpixel((image.width - 1, image.height - 1))
        assert image.convert("RGB").getpixel((0, 0)) == (255, 255, 255)
    assert "url(" not in html
    assert "@import" not in html
    assert path.stat().st_size < 1_500_000


def test_every_section_is_there(tmp_path):
    write_measured(tmp_path)
    rows = [log_row(step, task="mlm") for step in range(1, 161)]
    rows[140]["loss"] = 99.0
    write_lines(tmp_path / "training.json", [])
    html = write(write_run(tmp_path, rows=rows, evals=probe_eval_row), tmp_path, notes=["a note"])
    parsed = Parsed(html.read_text(encoding="utf-8"))
    sections = [
        dict(attributes)["id"] for tag, attributes in parsed.elements if "id" in dict(attributes)
    ]
    assert sections == [
        "warnings", "overview", "loss", "evaluation", "scores", "neighbours", "spectra", "data",
        "speed", "configuration", "machine", "notes",
    ]  # fmt: skip
    text = " ".join(" ".join(parsed.text).split())
    for told in (
        "step 160 of 100 (160%)", "1 loss spike at step 141", "Loss by window", "+0.1000 *",
        "optimizer.total_steps 100", "Difference to other", "no such file",
        "first 0.900 · relevant",
        "Spearman's correlation of svd_mean_ratio_1", "Weights by layer", "a note",
    ):  # fmt: skip
        assert told in text, told
    alts = [dict(attributes)["alt"] for tag, attributes in parsed.elements if tag == "img"]
    assert alts[0].startswith("Training loss fell from ")


@pytest.mark.parametrize("rows", [[], None])
def test_what_is_missing_is_left_out(tmp_path, rows):
    log = write_run(tmp_path, rows=rows, evals=False, starts=False)
    html = write(log, tmp_path).read_text(encoding="utf-8")
    for key in ("scores", "neighbours", "spectra", "configuration", "machine"):
        assert f'id="{key}"' not in html
    assert "no run.jsonl beside the log" in html
    assert ("no step logged yet" in html) == (rows == [])


def test_what_changed_when_a_run_was_resumed(tmp_path):
    log = write_run(tmp_path)
    starts = [
        {"step": n, "versions": {"torch": f"2.{n}", "x": "1"}, "time": "2026"} for n in (1, 2)
    ]
    write_lines(tmp_path / "run.jsonl", starts)
    assert "versions.torch 2.1 → 2.2" in write(log, tmp_path).read_text(encoding="utf-8")


def test_several_runs_side_by_side(tmp_path):
    names = [f"a{HOSTILE}", "b"]
    for seed, folder in enumerate(("a", "b")):
        write_measured(tmp_path / folder, [score_row(score=0.3 + seed / 10), baseline_row()])
        rows = [pair_row(step, seed=seed) for step in range(1, 41)]
        write_run(tmp_path / folder, rows=rows, evals=pair_eval_row)
    runs = [read_run(tmp_path / folder) for folder in ("a", "b")]
    statistics = [
        replace(describe_run(run), name=name) for run, name in zip(runs, names, strict=True)
    ]
    pngs, missing = compare_plots(runs, ["a", "b"], 5, tmp_path)
    path = write_comparison_report(runs, statistics, missing, pngs, tmp_path)
    parsed = Parsed(path.read_text(encoding="utf-8"))
    text = " ".join(" ".join(parsed.text).split())
    assert "2 runs compared" in text
    assert "STS ndcg_at_10 0.3000 .250 to .350 0.4000" in text
    assert len([tag for tag, _ in parsed.elements if tag == "img"]) == 4
    assert "script" not in {tag for tag, _ in parsed.elements}
