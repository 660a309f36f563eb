"""Configuration and starts of a run, as they were recorded."""

from kl3m_embeddings.report.html.record import (
    MAX_ROWS,
    configuration_tables,
    fields_table,
    flattened,
    machine_tables,
)


def texts(table):
    return [[cell.text for cell in row] for row in table.rows]


def test_nested_fields_have_their_path_and_are_written_as_in_json():
    value = {
        "a": {"b": 1.5, "c": None, "d": True}, "e": [1, 2], "f": [{"g": "x"}, 3], "h": [], "i": {},
    }  # fmt: skip
    assert list(flattened(value)) == [
        ("a.b", "1.5"), ("a.c", "null"), ("a.d", "true"), ("e", "1, 2"), ("f.0.g", "x"),
        ("f.1", "3"), ("h", "(none)"), ("i", "(none)"),
    ]  # fmt: skip


def test_deep_values_end_and_many_fields_are_counted():
    value = {}
    for _ in range(50):
        value = {"a": value}
    [(name, shown)] = flattened(value)
    assert (name, shown) == (".".join("a" * 9), "…")
    table = fields_table("t", {f"f{index}": index for index in range(MAX_ROWS + 1500)})
    assert (len(table.rows), table.caption) == (MAX_ROWS, "and 1,500 more in run.jsonl")


def test_the_last_start_tells_the_configuration():
    starts = [{"training": {"a": 1}}, {"training": {"a": 2}, "config": {"b": 3}}]
    training, config = configuration_tables(starts)
    assert (training.title, texts(training), training.folded) == (
        "training.json", [["a", "2"]], False,
    )  # fmt: skip
    assert (config.title, texts(config), config.folded) == ("config.json", [["b", "3"]], True)
    assert configuration_tables([]) == machine_tables([]) == []


def test_starts_say_what_changed():
    versions = [
        {"torch": "2.14", "x": "1"},
        {"torch": "2.15", "y": "1"},
        {"torch": "2.15", "y": "1"},
    ]
    starts = [
        {"event": "start", "step": 1000 * index, "time": "2026-01-02T03:04:05+00", "versions": one}
        for index, one in enumerate(versions)
    ]
    table, of_last = machine_tables(starts)
    changes = "versions.torch 2.14 → 2.15; versions.x 1 → (none); versions.y (none) → 1"
    assert texts(table) == [
        ["start", "0", "2026-01-02 03:04:05", "-"],
        ["start", "1,000", "2026-01-02 03:04:05", changes],
        ["start", "2,000", "2026-01-02 03:04:05", "-"],
    ]
    assert of_last.title == "Versions"
