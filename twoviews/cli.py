"""The command line. Heavy imports wait until a command needs them, so that help is instant."""

from __future__ import annotations

import atexit
import os
import re
import sys
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import typer

from .errors import TrainingError, UserError

app = typer.Typer(
    help="Learn representations from unlabelled data: photos, sound, histories, a graph or a text in, encoder out.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)

Out = Annotated[Path | None, typer.Option("--out", "-o", help="Folder of the run. Default: runs/NAME.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but the result.")]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, ... Default: a GPU when there is one.")]
Labels = Annotated[
    Path | None,
    typer.Option(
        help="CSV or Parquet with a path (or id) and a label column; of recordings also a pattern of their names, "
        "as {label}_{speaker}_{_}. They only measure; nothing learns from them."
    ),
]
Run = Annotated[Path, typer.Argument(help="The folder that `twoviews train` wrote.")]
WIDE = 1000  # characters of a line that nobody reads in a terminal
Settings = Annotated[
    list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Settings, as `method.temperature=0.2`.")
]


@app.command(
    epilog="**Examples:** `twoviews train photos/` · `twoviews train photos.zip epochs=50 method=moco` · "
    "`twoviews train recordings/` · `twoviews train clicks.parquet` · "
    "`twoviews train orders.csv data.user=customer data.item=sku` · "
    "`twoviews train edges/ views.metapaths=author-paper-author` · `twoviews train corpus.txt.gz` · "
    "`torchrun --nproc-per-node 8 -m twoviews train photos/` · `twoviews train 's3://bucket/{000..999}.tar'`"
)
def train(
    data: Annotated[
        str,
        typer.Argument(
            help="Photos, videos or recordings: a folder, .zip, .tar, .parquet, photos .npy or shards by URL too. "
            "A log: .csv, .tsv, .txt, .parquet. "
            "A graph: a folder with a file of edges for each relation, or one such file. A text: .txt, .gz, .xz."
        ),
    ],
    settings: Settings = None,
    recipe: Annotated[str, typer.Option(help="A recipe's name, see `twoviews list recipes`.")] = "auto",
    out: Out = None,
    labels: Labels = None,
    device: Device = None,
    fresh: Annotated[bool, typer.Option(help="Throw away what the folder holds and start over.")] = False,
    stop_when_ill: Annotated[bool, typer.Option(help="End the training when the doctor finds the run ill.")] = False,
    quiet: Quiet = False,
) -> None:
    """Train an encoder on photos, videos, recordings, a log of what users met, a graph or a text, and measure it.

    No labels are needed; where sub-folders or a table give some, they measure the result. A log has a column of
    users and one of items, best also one of times. A file of edges has columns src and dst, maybe a weight. The same
    command goes on where it was stopped.
    """
    from .api import train

    result = train(
        data,
        recipe=recipe,
        out=out,
        labels=labels,
        device=device,
        fresh=fresh,
        quiet=quiet,
        stop_when_ill=stop_when_ill,
        settings=pairs(settings),
    )
    if result.rank == 0:
        show(result)


@app.command(
    epilog="**Example:** `twoviews embed runs/photos photos/ -o photos.parquet` · "
    "`twoviews embed runs/recordings-cpc recordings/ --frames -o frames.parquet` · "
    "`twoviews embed runs/clips-mae clips/ --windows 2 -o windows.parquet` · "
    "`twoviews embed runs/clicks-bert4rec clicks.parquet -o users.parquet` · "
    "`twoviews embed runs/papers-metapath2vec --type author -o authors.parquet` · "
    "`twoviews embed runs/corpus-word2vec -o vectors.bin`"
)
def embed(
    run: Annotated[Path, typer.Argument(help="The folder that `twoviews train` wrote.")],
    data: Annotated[
        str | None,
        typer.Argument(
            help="Photos, videos, recordings, a log, as for `train`; nodes of a graph or words of a text. Default: all."
        ),
    ] = None,
    out: Annotated[
        Path,
        typer.Option("--out", "-o", help="A .parquet, .npy or .safetensors file; of words and nodes .txt, .bin too."),
    ] = Path("embeddings.parquet"),
    items: Annotated[bool, typer.Option(help="Of a run on a log: one vector an item, not one a user.")] = False,
    kind: Annotated[str | None, typer.Option("--type", help="Of a run on a graph: nodes of one type alone.")] = None,
    frames: Annotated[bool, typer.Option(help="Of a run on recordings: one vector a frame, with its time.")] = False,
    windows: Annotated[
        float | None, typer.Option(help="Of a run on videos: one vector for each window of so many seconds.")
    ] = None,
    step: Annotated[float | None, typer.Option(help="Seconds from window to window. Default: end to end.")] = None,
    labels: Labels = None,
    batch_size: Annotated[int, typer.Option(help="Photos at a time.", min=1)] = 256,
    device: Device = None,
    quiet: Quiet = False,
) -> None:
    """Write one embedding a photo, video, window, recording, frame, user, node or word.

    Of photos and recordings a command that was stopped goes on where it was. Nodes and words end in .txt or .bin for
    what reads word2vec's files, as gensim does.
    """
    from .api import embed

    how: dict[str, Any] = {
        "items": items,
        "kind": kind,
        "frames": frames,
        "windows": windows,
        "step": step,
        "labels": labels,
        "batch_size": batch_size,
        "device": device,
        "quiet": quiet,
    }
    written = embed(run, data, out, **how)
    print(written)


@app.command(
    epilog="**Example:** `twoviews evaluate runs/photos` · `twoviews evaluate runs/photos labelled/ --k 200` · "
    "`twoviews evaluate runs/papers-metapath2vec --labels labels.author.csv` · "
    "`twoviews evaluate runs/corpus-word2vec questions-words.txt`"
)
def evaluate(
    run: Annotated[Path, typer.Argument(help="The folder that `twoviews train` wrote.")],
    data: Annotated[
        str | None,
        typer.Argument(help="Labelled photos, a log, or tests of words. Default: the run's own data."),
    ] = None,
    labels: Labels = None,
    k: Annotated[int | None, typer.Option(help="Neighbours that vote. Default: 20.")] = None,
    sampled: Annotated[
        int, typer.Option(help="Of a run on a log: rank among so many popular items, as the paper does, not among all.")
    ] = 0,
    device: Device = None,
    json: Annotated[bool, typer.Option("--json", help="Print the table as JSON.")] = False,
    quiet: Quiet = False,
) -> None:
    """Measure a run beside what has learned nothing, or little."""
    from .api import evaluate

    probe = ({} if k is None else {"k": k}) | ({"sampled": sampled} if sampled else {})
    table = evaluate(run, data, labels=labels, device=device, quiet=quiet or json, **probe)
    if json:
        import json as j

        print(j.dumps(table.to_json(), indent=2))
    else:
        print_table(table)


def show(result: Any) -> None:
    if result.table:
        print_table(result.table)
    if result.diagnosis:
        print(f"doctor    {result.diagnosis.verdict}. {result.diagnosis.sentence}")
    print(f"encoder   {result.folder / 'encoder.safetensors'}")
    print(f"page      {result.folder / 'index.html'}")
    if (result.folder / "entries.parquet").exists():
        print(f"embed     twoviews embed {result.folder} -o vectors.parquet")
        print(f"similar   twoviews similar {result.folder} NAME")
    elif (result.folder / "items.parquet").exists():
        print(f"recommend twoviews recommend {result.folder} -k 20 -o recs.parquet")
    else:
        print(f"embed     twoviews embed {result.folder} DATA -o embeddings.parquet")


def print_table(table: Any) -> None:
    from rich.console import Console

    seen = sys.stdout.isatty()  # in a file no line is too long
    console = Console(highlight=False, markup=False, soft_wrap=not seen, width=None if seen else WIDE)
    console.print(table.rich(console.width))
    console.print(table.verdict)


def pairs(settings: list[str] | None) -> dict[str, Any]:
    """["epochs=20"] -> {"epochs": 20}."""
    from .calls import parse

    out = {}
    for setting in settings or ():
        key, equals, value = setting.partition("=")
        if not equals or not key:
            raise UserError(f"'{setting}' is not a setting; write KEY=VALUE, as epochs=50; DATA is one folder or file")
        if key in ("recipe", "out", "labels", "device"):
            raise UserError(f"give '{key}' as an option: --{key} {value}")
        out[key] = parse(value)
    return out


def main() -> None:
    """The entry point: one line for what a user can mend, no traceback, exit code not zero."""
    try:
        code = app(standalone_mode=False) or 0
        if code == 130:  # what the command line makes of Ctrl-C
            raise KeyboardInterrupt
        sys.exit(code)
    except UserError as error:
        fail(str(error), 2)
    except TrainingError as error:
        fail(str(error), 3)
    except (KeyboardInterrupt, typer.Abort):
        fail("stopped; the same command goes on from what it has written", 130)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(141)
    except Exception as error:
        module = sys.modules.get("twoviews.train")
        if module and isinstance(error, module.Interrupted):
            fail(f"{error}; the same command goes on from there", 128 + error.signum)
        if hasattr(error, "format_message"):  # the command line's own: a missing argument, an unknown command
            fail(" ".join(error.format_message().split()), 2)
        if isinstance(error, OSError):
            fail(f"{error.strerror or error}: {error.filename}" if error.filename else str(error), 2)
        raise


def entry() -> None:
    """`main`, and then the end at once: a thread of Arrow or of gloo that asks for Python while it ends aborts the
    process, with another exit code (https://github.com/apache/arrow/issues/34314).
    """
    code: Any = 0
    try:
        main()
    except SystemExit as end:
        code = end.code
    if not isinstance(code, int | None):
        sys.exit(code)
    atexit._run_exitfuncs()
    for file in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            file.flush()
    os._exit(code or 0)


def plain(text: str) -> str:
    """One line, whatever a file name holds: what moves the cursor is written out."""
    return re.sub(r"[\x00-\x1f\x7f-\x9f]", lambda c: c[0].encode("unicode_escape").decode(), text)


def fail(message: str, code: int) -> None:
    if os.environ.get("LOCAL_RANK", os.environ.get("RANK", "0")) == "0":  # of the processes of one host one speaks
        print(f"twoviews: {plain(message)}", file=sys.stderr)
    sys.exit(code)


from . import cli_after, cli_graphs, cli_histories, cli_look  # noqa: E402, F401  their commands belong to `app`
