"""The command for graphs that do not fit into memory. Importing this adds it to the command line and costs nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .cli import Quiet, Settings, app, pairs


@app.command(
    epilog="**Example:** `twoviews buckets edges/ -o runs/edges-buckets --partitions 16` · "
    "`torchrun --nproc-per-node 4 -m twoviews buckets edges/ -o runs/edges-buckets --partitions 16`"
)
def buckets(
    data: Annotated[str, typer.Argument(help="A graph, any kind that `train` takes, or edges (E, 2) as .npy.")],
    settings: Settings = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="The folder of the tables.")] = Path("runs/buckets"),
    partitions: Annotated[int, typer.Option(help="Parts of the nodes, of which two are held.", min=1)] = 8,
    dim: Annotated[int, typer.Option(help="Numbers of a vector.", min=1)] = 128,
    order: Annotated[str, typer.Option(help="second: same neighbours, alike; first: neighbours, alike.")] = "second",
    epochs: Annotated[int, typer.Option(help="Times that each edge is trained.", min=1)] = 10,
    lr: Annotated[float, typer.Option(help="Learning rate of the first epoch.")] = 0.025,
    threads: Annotated[int, typer.Option(help="Of each process; 1 gives the same bits each time.", min=1)] = 1,
    seed: Annotated[int, typer.Option(help="Of partitions, tables and draws.", min=0)] = 0,
    quiet: Quiet = False,
) -> None:
    """Train vectors of the nodes of a graph (LINE) whose tables do not fit into memory, two partitions at a time.

    Goes on where it was stopped. Ends with vectors.npy, a row a node; entries.parquet says which.
    """
    from .partitioned import train_partitioned

    how = {"partitions": partitions, "dim": dim, "order": order, "epochs": epochs, "lr": lr}
    written = train_partitioned(data, out, settings=pairs(settings), quiet=quiet, threads=threads, seed=seed, **how)
    if written:
        print(written)
