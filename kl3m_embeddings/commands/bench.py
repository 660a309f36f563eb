"""`kl3m bench`: the speed of a training step beside transformers' and the device's limit."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kl3m_embeddings.commands.options import Device
from kl3m_embeddings.errors import ConfigError, RetryError
from kl3m_embeddings.messages import say, warn

if TYPE_CHECKING:
    from transformers import PretrainedConfig

    from kl3m_embeddings.speed.sides import Work

Numbers = Mapping[str, float]


def bench(
    model: Annotated[
        Path, typer.Argument(help="Model folder, of which config.json is read.")
    ] = Path("models/kl3m-embedding-005"),
    batch_size: Annotated[int, typer.Option(min=1, help="Rows of a step.")] = 64,
    length: Annotated[int, typer.Option(min=8, help="Tokens of a row.")] = 128,
    sides: Annotated[
        str, typer.Option(help="Of ours, transformers, plain (BERT of the same sizes).")
    ] = "ours,transformers",
    device: Device = None,
    precision: Annotated[str, typer.Option(help="auto, bfloat16, float16 or float32.")] = "auto",
    rounds: Annotated[int, typer.Option(min=1, help="The sides take turns so often.")] = 3,
    steps: Annotated[int, typer.Option(min=1, help="Timed steps of a side in a round.")] = 3,
    compile_: Annotated[bool, typer.Option("--compile", help="Through torch.compile.")] = False,
    growth: Annotated[
        bool, typer.Option("--growth", help="Ours at other batches, lengths, depths, vocabularies.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option(help="JSON file; with --growth its figure lies beside it.")
    ] = None,
) -> None:
    """Time whole training steps side by side, each in a process of its own, in turns."""
    from kl3m_embeddings.encoder.folder.architecture import load_architecture
    from kl3m_embeddings.encoder.hardware import choose_precision, pick_device
    from kl3m_embeddings.engine.single import DTYPES
    from kl3m_embeddings.speed.measure import describe_machine
    from kl3m_embeddings.speed.sides import SIDES, Work

    config = model / "config.json" if model.is_dir() else model
    architecture = load_architecture(config)
    names = [name.strip() for name in sides.split(",") if name.strip()]
    if unknown := [name for name in names if name not in SIDES]:
        raise ConfigError(f"--sides {unknown[0]}: choose of {', '.join(SIDES)}")
    if precision not in ("auto", *DTYPES):
        raise ConfigError(f"--precision {precision}: choose one of auto, {', '.join(DTYPES)}")
    precision = choose_precision(precision, pick_device(device))
    work = Work(batch_size=batch_size, length=length, precision=precision, compile=compile_)
    report: dict[str, Any] = {
        "machine": describe_machine(device),
        "model": str(model),
        "work": asdict(work),
        "rounds": rounds,
        "steps": steps,
    }
    settings = {"device": device, "num_steps": steps}
    write(out, report)  # a place that cannot be written is told of before anything is measured
    report |= compare(names, config, work, rounds, settings)
    print(table(report["medians"], work))
    write(out, report)  # the comparison is kept, whatever becomes of the rest
    if growth:
        report["growth"] = grow(config, architecture, work, settings)
        write(out, report)
        if out is not None:
            from kl3m_embeddings.report.plots.growth import growth_figure
            from kl3m_embeddings.report.plots.style import save, styled

            with styled():
                figure = growth_figure(report["growth"], report["machine"])
            save(figure, out.with_suffix(".png"))


def compare(
    names: list[str], config: Path, work: "Work", rounds: int, settings: Mapping[str, Any]
) -> dict[str, Any]:
    """Every run of each side, and their medians."""
    from kl3m_embeddings.speed.measure import measure_apart, medians

    runs: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    for index in range(rounds):
        for name in names:
            runs[name].append(measure_apart(name, config, work, **settings))
            speed = runs[name][-1]["tokens_per_s"]
            say(f"round {index + 1} of {rounds}: {name}, {speed:,.0f} tokens/s")
    return {"runs": runs, "medians": {name: medians(runs[name]) for name in names}}


def grow(
    config: Path, architecture: "PretrainedConfig", work: "Work", settings: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """A row for each size of each axis; those that fail are told of and left out."""
    from kl3m_embeddings.speed.growth import points
    from kl3m_embeddings.speed.measure import measure_apart

    rows = []
    for axis, size, other in points(architecture, work):
        try:
            numbers = measure_apart("ours", config, other, **settings)
        except RetryError as error:
            warn(f"{axis} {size}: left out: {error}")
            continue
        rows.append({"axis": axis, "size": size, **numbers})
        say(f"{axis} {size:,}: {numbers['tokens_per_s']:,.0f} tokens/s")
    return rows


def table(medians: Mapping[str, Numbers], work: "Work") -> str:
    """The sides beside each other; `x` is in the last side's speed, times are of a step."""
    from kl3m_embeddings.report.tables.output import as_text
    from kl3m_embeddings.report.tables.parts import grid
    from kl3m_embeddings.speed.measure import PHASES

    base = list(medians.values())[-1]
    limit = max(one["flops_limit"] for one in medians.values())
    title = f"{work.batch_size} x {work.length} tokens, {work.precision}; times in ms"
    sides = grid(
        title, "", "tokens/s", "x", "%\nlimit", "GB", "step", "for-\nward", "back-\nward",
        "opti-\nmizer", gap=2,
    )  # fmt: skip
    for name, one in medians.items():
        sides.add_row(
            name,
            f"{one['tokens_per_s']:,.0f}",
            f"{one['tokens_per_s'] / base['tokens_per_s']:.2f}",
            f"{100 * one['flops'] / limit:.0f}",
            f"{one['peak_memory_gb']:.1f}",
            *(f"{1000 * one[f'{part}_s']:,.0f}" for part in ("step", *PHASES)),
        )
    return as_text([sides, f"limit: one large matrix product, {limit / 1e9:,.0f} GFLOP/s"])


def write(out: Path | None, report: Mapping[str, Any]) -> None:
    """Write the report, if a file is wanted."""
    from kl3m_embeddings.files.whole import write_whole

    if out is not None:
        write_whole(out, json.dumps(report, indent=1) + "\n")
