import pytest

from kl3m_embeddings.data.installed.docs import Text
from kl3m_embeddings.data.installed.docstring_pairs import (
    is_held_out,
    package_of,
    pair_of,
    split_pairs,
)
from tests.data.installed.bodies import BODY


def test_a_pair_is_a_summary_and_the_rest():
    docstring = Text("p/m.py::f", f"Return the area\nof a shape.\n\n{BODY}")
    assert pair_of(docstring) == ("p/m.py::f", "Return the area of a shape.", BODY.strip())


@pytest.mark.parametrize(
    "text",
    [
        BODY,  # no summary
        "Return the area of a shape.\n\nShort.",
        f"Area.\n\n{BODY}",
        f"{BODY * 3}\n\n{BODY}",
    ],
)
def test_a_docstring_without_both_is_no_pair(text):
    assert pair_of(Text("p/m.py", text)) is None


@pytest.mark.parametrize(
    ("document_id", "package"),
    [
        ("rich/text.py::Text", "rich"),
        ("pip/_vendor/rich/text.py::Text", "rich"),
        ("setuptools/_vendor/jaraco/text/__init__.py", "jaraco"),
        ("sklearn/externals/_packaging/version.py", "packaging"),
        ("typing_extensions.py::f", "typing_extensions"),
        ("_pytest/config/vendor.py", "pytest"),
        ("stdlib/asyncio/tasks.py::vendor/x", "stdlib"),
        ("Typing-Extensions.dist-info/METADATA", "typing_extensions"),
        ("setuptools/_vendor/wheel.dist-info/LICENSE", "wheel"),
    ],
)
def test_packages_are_those_that_were_copied(document_id, package):
    assert package_of(document_id) == package


def test_pairs_are_split_by_package():
    names = [f"package{i}" for i in range(200)]
    texts = [
        Text(f"{prefix}{name}/m.py::f", f"Return the {i}th thing.\n\n{BODY}")
        for i, name in enumerate(names)
        for prefix in ("", "pip/_vendor/")
    ]
    train, held_out = split_pairs(texts)
    assert len(train) + len(held_out) == len(texts)
    assert 10 <= len(held_out) / 2 <= 40
    sides = [{package_of(pair.id) for pair in pairs} for pairs in (train, held_out)]
    assert not sides[0] & sides[1]
    assert sides[1] == {name for name in names if is_held_out(name)}
