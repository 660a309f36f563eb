from pathlib import Path

from kl3m_embeddings.config.table import config_markdown
from kl3m_embeddings.config.training import TrainingConfig

ROOT = Path(__file__).parents[2]


def test_docs_config_md_is_made_from_the_fields():
    document = (ROOT / "docs" / "config.md").read_text(encoding="utf-8")
    assert document == config_markdown(), "run `make docs`"


def test_every_field_is_documented():
    document = config_markdown()

    def fields_below(section):
        for name, field in section.model_fields.items():
            yield name, field
            for kind in (field.annotation, *getattr(field.annotation, "__args__", ())):
                if hasattr(kind, "model_fields"):
                    yield from fields_below(kind)

    for name, field in fields_below(TrainingConfig):
        assert field.description, name
        assert f"| `{name}` |" in document
