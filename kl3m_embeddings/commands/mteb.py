"""`kl3m mteb`: models scored on tasks of MTEB and of plain files."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kl3m_embeddings.commands.options import AllCheckpoints, Device

if TYPE_CHECKING:
    from kl3m_embeddings.encoder.kernels.precision import Precision


def mteb(
    models: Annotated[
        list[str],
        typer.Argument(help="Model folders, sentence-transformers folders, package:NAME/FOLDER."),
    ],
    names: Annotated[
        str, typer.Option("--mteb", help="Tasks and benchmarks of MTEB, parted by commas.")
    ] = "",
    lists: Annotated[
        list[str] | None,
        typer.Option("--mteb-file", help="A file of such names, one a line; or `legalbench`."),
    ] = None,
    folders: Annotated[
        list[Path] | None,
        typer.Option("--task", help="A folder with a task.json (docs/local-tasks.md)."),
    ] = None,
    baselines: Annotated[
        list[str] | None, typer.Option("--baseline", help="bm25, random, or a model.")
    ] = None,
    compare_with: Annotated[
        str | None, typer.Option(help="Show differences from it; the first baseline if left out.")
    ] = None,
    dims: Annotated[str, typer.Option(help="Also with so many dimensions, parted by commas.")] = "",
    dtypes: Annotated[str, typer.Option(help="Also as int8, binary; parted by commas.")] = "",
    all_checkpoints: AllCheckpoints = False,
    out: Annotated[
        Path | None, typer.Option(help="Where results go (default: benchmark/ in the run).")
    ] = None,
    device: Device = None,
    precision: Annotated[
        str | None, typer.Option(help="bfloat16 or float32 (default: what the device does fast).")
    ] = None,
    query_prompt: Annotated[
        str | None, typer.Option(help="Put before queries, not the model's own.")
    ] = None,
    document_prompt: Annotated[
        str | None, typer.Option(help="Put before documents, not the model's own.")
    ] = None,
) -> int:
    """Score models; what is there is not scored again. Prints a table, writes scores.csv."""
    from kl3m_embeddings.benchmark.request import BenchmarkRequest, split_names
    from kl3m_embeddings.commands.scoring import run_benchmark

    return run_benchmark(
        BenchmarkRequest(
            models=models,
            names=names,
            lists=lists or (),
            folders=folders or (),
            baselines=baselines or (),
            compare_with=compare_with,
            dims=numbers(dims),
            dtypes=split_names(dtypes),
            all_checkpoints=all_checkpoints,
            out=out,
            device=device,
            precision=checked_precision(precision),
            prompts=given_prompts(query=query_prompt, document=document_prompt),
        )
    )


def given_prompts(**prompts: str | None) -> dict[str, str]:
    """Those that were given, by side; an empty one was."""
    return {side: prompt for side, prompt in prompts.items() if prompt is not None}


def numbers(text: str) -> list[int]:
    """Sizes parted by commas."""
    from kl3m_embeddings.errors import ConfigError

    parts = [part.strip() for part in text.split(",") if part.strip()]
    if wrong := [part for part in parts if not part.isdecimal() or int(part) < 1]:
        raise ConfigError(f"--dims {wrong[0]}: must be a whole number above 0")
    return [int(part) for part in parts]


def checked_precision(name: str | None) -> "Precision | None":
    """A known precision."""
    from typing import get_args

    from kl3m_embeddings.encoder.kernels.precision import Precision
    from kl3m_embeddings.errors import ConfigError

    known: tuple[Precision, ...] = get_args(Precision)
    if name is None or name in known:
        return next((one for one in known if one == name), None)
    raise ConfigError(f"--precision {name}: unknown: use {' or '.join(known)}")
