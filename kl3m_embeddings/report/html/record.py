"""How a run was configured, on what it ran, and what changed when it was resumed."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from kl3m_embeddings.report.html.blocks import Cell, HtmlTable
from kl3m_embeddings.report.names import NO_VALUE, number, printable

MAX_ROWS = 400
MAX_DEPTH = 8
VALUE_LENGTH = 400
MAX_STARTS = 50
RECORDED = ("hardware", "versions", "config", "training")


def configuration_tables(starts: Sequence[Mapping[str, Any]]) -> list[HtmlTable]:
    """The training's settings and the architecture, as the last start recorded them."""
    return [
        fields_table(title, starts[-1].get(name), folded=name == "config")
        for name, title in (("training", "training.json"), ("config", "config.json"))
        if starts and starts[-1].get(name)
    ]


def machine_tables(starts: Sequence[Mapping[str, Any]]) -> list[HtmlTable]:
    """All starts, and hardware and versions of the last one."""
    if not starts:
        return []
    tables = [starts_table(starts)]
    return tables + [
        fields_table(title, starts[-1].get(name))
        for name, title in (("hardware", "Hardware"), ("versions", "Versions"))
        if starts[-1].get(name)
    ]


def fields_table(title: str, value: object, *, folded: bool = False) -> HtmlTable:
    """A row for each field: where it stands, and its value."""
    fields = list(flattened(value))
    left_out = len(fields) - MAX_ROWS
    return HtmlTable(
        title=title,
        columns=[],
        rows=[[Cell(name), Cell(shown)] for name, shown in fields[:MAX_ROWS]],
        left=[True, True],
        caption=f"and {left_out:,} more in run.jsonl" if left_out > 0 else "",
        folded=folded,
    )


def flattened(value: object, name: str = "", depth: int = 0) -> Iterator[tuple[str, str]]:
    """The fields of nested objects as `optimizer.peak_lr`, with their values as text."""
    if depth > MAX_DEPTH:
        yield name, "…"
    elif isinstance(value, dict) and value:
        for key, item in value.items():
            yield from flattened(item, joined(name, printable(key, 60)), depth + 1)
    elif isinstance(value, list) and any(isinstance(item, dict | list) for item in value):
        for index, item in enumerate(value):
            yield from flattened(item, joined(name, str(index)), depth + 1)
    else:
        yield name or "value", as_text(value)


def joined(name: str, key: str) -> str:
    """`name.key`."""
    return f"{name}.{key}" if name else key


def as_text(value: object) -> str:
    """A value as it would be written in JSON, but for the quotes."""
    match value:
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case dict() | list():
            items = ", ".join(as_text(item) for item in value)
            return printable(items or "(none)", VALUE_LENGTH)
        case float():
            return f"{value:g}"
    return printable(value, VALUE_LENGTH)


def starts_table(starts: Sequence[Mapping[str, Any]]) -> HtmlTable:
    """A row a start, with what had changed since the one before."""
    rows = []
    recorded: list[dict[str, str]] = [
        dict(flattened({name: start.get(name) for name in RECORDED})) for start in starts
    ]
    for index, start in enumerate(starts):
        changes = changed(recorded[index - 1], recorded[index]) if index else ""
        step, time = start.get("step"), printable(str(start.get("time", NO_VALUE))[:19])
        rows.append(
            [
                Cell(printable(start.get("event", "start"), 20)),
                Cell(number(step) if isinstance(step, int) else NO_VALUE),
                Cell(time.replace("T", " ")),
                Cell(changes or NO_VALUE),
            ]
        )
    return HtmlTable(
        title="Starts",
        columns=["", "at step", "time", "changed since the start before"],
        rows=rows[-MAX_STARTS:],
        left=[True, False, True, True],
        caption=f"the last {MAX_STARTS} of {len(rows):,}" if len(rows) > MAX_STARTS else "",
    )


def changed(before: Mapping[str, str], after: Mapping[str, str]) -> str:
    """`versions.torch 2.14 → 2.15`, and so on."""
    names = [name for name in {**before, **after} if before.get(name) != after.get(name)]
    parts = [f"{name} {before.get(name, '(none)')} → {after.get(name, '(none)')}" for name in names]
    return printable("; ".join(parts), VALUE_LENGTH)
