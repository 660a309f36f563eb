"""A page as one HTML file: no script, nothing from elsewhere, every text escaped.

1. jinja2 escapes all that the template shows; nothing here is marked as safe.
2. Before that, control and bidirectional characters are replaced, whatever the text is from.
3. The page's own policy forbids scripts and anything from a network, should 1 ever fail.
"""

from pathlib import Path

from kl3m_embeddings.files.whole import write_whole
from kl3m_embeddings.report.html.blocks import Page
from kl3m_embeddings.report.names import printable

TEMPLATE = "report.html.j2"
ANY_LENGTH = 2**31


def write_page(page: Page, path: Path) -> Path:
    """Write the page to `path`, whole."""
    write_whole(path, as_html(page))
    return path


def as_html(page: Page) -> str:
    """The page's HTML."""
    # loaded only when a page is written: the rest of the command does without
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    def washed(value: object) -> object:
        is_ours = isinstance(value, Markup | int | float)
        return value if is_ours else printable(value, ANY_LENGTH)

    environment = Environment(
        loader=PackageLoader("kl3m_embeddings.report.html"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=washed,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(TEMPLATE).render(page=page)
