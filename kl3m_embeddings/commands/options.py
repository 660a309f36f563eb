"""Options that several commands have, in the same words."""

from typing import Annotated

import typer

Device = Annotated[str | None, typer.Option(help="cuda, cuda:1, mps, cpu.")]
AllCheckpoints = Annotated[
    bool, typer.Option("--all-checkpoints", help="Of a run, every checkpoint.")
]
