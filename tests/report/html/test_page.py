"""A page: all its texts escaped and washed."""

from pathlib import Path

from kl3m_embeddings.report.html import page
from kl3m_embeddings.report.html.blocks import Fact, Page, Paragraph, Section


def test_texts_are_escaped_and_washed(tmp_path):
    found = Page(
        title="<b>title</b>",
        subtitle="\x1b[31m & more",
        facts=[Fact("a fact", "<1>")],
        warnings=["{{ 7 * 7 }}"],
        notes=[],
        sections=[Section("loss", "Loss", [Paragraph("\u202e'quoted\"")])],
    )
    path = page.write_page(found, tmp_path / "report.html")
    html = path.read_text(encoding="utf-8")
    for text in (
        "&lt;b&gt;title&lt;/b&gt;", "?[31m &amp; more", "&lt;1&gt;", "{{ 7 * 7 }}",
        "?&#39;quoted&#34;",
    ):  # fmt: skip
        assert text in html
    assert "<b>" not in html
    assert "Content-Security-Policy" in html and "default-src 'none'" in html


def test_the_template_is_in_the_package():
    folder = Path(page.__file__).parent / "templates"
    assert {path.name for path in folder.iterdir()} == {page.TEMPLATE, "report.css"}
