"""BERT4Rec and SASRec against RecBole's BERT4Rec and RecTools': time to equal NDCG and peak memory, beside the floors.

    python benchmarks/against_recommenders.py --data ml-1m [--sides popular markov bert4rec sasrec recbole rectools]
                                              [--seconds 300] [--threads 1] [--users 2000] [--levels .05 .1 ...]

A side can be given settings of its own: bert4rec:epochs=5, sasrec:encoder.width=128, recbole:train_batch_size=128,
rectools:n_factors=64,n_heads=2. Without them each has its defaults, and so its own length of rows.

Every side begins with the same log as a file and trains on all but the last two events of each user, in a fresh process
that has run on a small log before, so that neither import nor compiling counts. Twelve times in its budget, and at its
end, the last event is looked for among all items but those of the history, by the ranks of twoviews.evaluate.ranking
for all sides: during the training of some users, the same for all, at the end of all users. There is no choice among
checkpoints. Seconds are those of the processor, from the log on, without measuring; those to a level are interpolated
between measurements. Memory is the peak above the libraries without measuring (VmHWM, reset through
/proc/self/clear_refs).

    twoviews    the recipes, through twoviews.train.train; as many epochs as fit, for the learning rate falls with them.
                What fits is tried out before, uncounted.
    recbole     pip install --no-deps recbole, and what it then asks for. Its own reader, augmentation, masks and
                epochs, scores by full_sort_predict. An epoch has a row for every event; the budget ends within one.
    rectools    pip install rectools[torch], or beside a newer numpy --no-deps rectools pm-implicit fastrlock typeguard.
                Its own Dataset, data preparator and Lightning trainer.
"""

import argparse
import ctypes
import gc
import logging
import os
import sys
import tempfile
import time
import warnings
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as csv
import torch

from twoviews.build import build, make_optimizer
from twoviews.data.histories import Histories
from twoviews.data.logs import histories
from twoviews.data.rows import HistoryLoader
from twoviews.data.splits import Question, divided
from twoviews.evaluate.floors import markov, popular
from twoviews.evaluate.ranking import model_scorer, rank
from twoviews.fit import open_task
from twoviews.log import Log
from twoviews.malloc import kept
from twoviews.recipes import RECIPES
from twoviews.train import Stopped, train

FILES = {"ml-1m": "rec/ml-1m_sas.txt.gz", "beauty": "rec/beauty_bert4rec.txt.gz"}
LOOKS = 12
TRIED = 24  # steps, of each kind of batch


@dataclass
class Found:
    """What is known of a side. course: (seconds, steps, NDCG@10) of some users."""

    settings: str = ""
    prepared: float = 0.0
    course: list[tuple[float, int, float]] = field(default_factory=list)
    steps: int = 0
    seconds: float = 0.0
    recall: float = 0.0
    ndcg: float = 0.0
    memory: float = 0.0


class Watch:
    """The clock of a side, which stands still while its scorer is measured."""

    def __init__(self, question: Question, budget: float, users: int):
        self.question, self.budget, self.found = question, budget, Found()
        chosen = np.sort(np.random.default_rng(0).permutation(len(question))[:users])
        self.some = Question(question.history.subset(chosen), question.truth.subset(chosen))
        self.due = 0.0
        self.resting = self.peak = 0.0
        self.base = self._forget()
        self.begun = time.process_time()

    @property
    def spent(self) -> float:
        return time.process_time() - self.begun - self.resting

    def rest(self, function, *args):
        """What function(*args) gives; neither its time nor its memory counts."""
        self.peak = max(self.peak, status("VmHWM"))
        begun = time.process_time()
        out = function(*args)
        self._forget()
        self.resting += time.process_time() - begun
        return out

    def ready(self, settings: str) -> None:
        """Right before the first step."""
        self.found.settings, self.found.prepared = settings, self.spent
        self.due = self.spent + self.budget / LOOKS

    def step(self, scorer) -> bool:
        """After each step. True when the budget is spent."""
        self.found.steps += 1
        over = self.spent >= self.budget
        if self.spent >= self.due and not over:
            self.due = max(self.due, self.spent) + self.budget / LOOKS
            self._look(scorer)
        return over

    def end(self, scorer) -> None:
        self.found.seconds = self.spent
        self._look(scorer)
        ranks = self.rest(rank, scorer, self.question)
        self.found.recall, self.found.ndcg = ranks.recall(10).value, ranks.ndcg(10).value
        self.found.memory = self.peak - self.base

    def _look(self, scorer) -> None:
        at = self.spent
        ndcg = self.rest(rank, scorer, self.some).ndcg(10).value
        self.found.course.append((at, self.found.steps, ndcg))

    def _forget(self) -> float:
        """Peaks begin anew; what is held now, in bytes."""
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")
        return status("VmRSS")


def status(name: str) -> float:
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(name)) * 1024


# Sides: (file, settings, watch), which they call before, after each step and at the end


def floor(fit, path, settings, watch):
    scorer = fit(divided(histories(path)).train)
    watch.ready("no training")
    watch.end(scorer)


def twoviews(recipe, path, settings, watch):
    run = RECIPES[recipe](str(path)).override(settings)
    task, cpu, quiet = open_task(run), torch.device("cpu"), Log(quiet=True)
    if "epochs" not in settings:
        with kept():  # as in training
            seconds = watch.rest(epoch_seconds, task)
        fit = max(1, int(0.95 * (watch.budget - watch.spent) / seconds))
        task.run = replace(task.run, epochs=min(task.run.epochs, fit))
    run, method = task.run, build(task.run)
    loader = task.loader(cpu, quiet)
    task.begin(method, quiet)
    e = method.encoder
    watch.ready(
        f"d={e.dim}, {len(e.blocks)} layers, rows of {e.length}, batch {run.batch_size}, {run.epochs} epochs, "
        f"loss {method.loss}, vectors begin as an SVD, rate {run.optimizer.keywords['lr']:g} that falls"
    )
    scorer = model_scorer(method, task.ask)

    def stop():
        return "the budget is spent" if watch.step(scorer) else None

    how = {"epochs": run.epochs, "device": cpu, "clip": run.clip, "seed": run.seed, "stop": stop}
    with suppress(Stopped):
        train(method, loader, make_optimizer(run, method), run.schedule, **how)
    watch.end(scorer)


def epoch_seconds(task):
    """Of an average epoch, by the items in some batches of its first and of its last kind."""
    run, method = task.run, build(task.run)
    optimizer = make_optimizer(run, method)
    loader = HistoryLoader(task.source, task.views, run.batch_size)
    found = []
    for epoch in (0, 1):  # an epoch of one: its beginning and what is beyond its end
        seconds = tried = whole = 0
        for done, batch in enumerate(loader.epoch(epoch)):
            whole += batch.views[0].numel()
            if done < TRIED:
                tried = whole
                begun = time.process_time()
                method(batch).loss.backward()
                optimizer.step()
                optimizer.zero_grad()
                seconds += time.process_time() - begun
        found.append(seconds * whole / tried)
    share = getattr(task.views, "following", 1.0)
    return share * found[0] + (1 - share) * found[1]


def recbole(path, settings, watch):
    for name, now in {"float_": np.float64, "complex_": np.complex128, "unicode_": np.str_, "float": float}.items():
        setattr(np, name, now)  # numpy's names of long ago
    from recbole.config import Config
    from recbole.data import create_dataset, data_preparation
    from recbole.data.interaction import Interaction
    from recbole.trainer import Trainer
    from recbole.utils import get_model, init_seed

    given = {
        "data_path": str(path.parent.parent),
        "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
        "train_neg_sample_args": None,  # as its cross-entropy asks for
        "show_progress": False,
    }
    config = Config(model="BERT4Rec", dataset=path.stem, config_dict=given | settings)
    init_seed(config["seed"], config["reproducibility"])
    dataset = create_dataset(config)
    batches = data_preparation(config, dataset)[0]
    init_seed(config["seed"], config["reproducibility"])
    model = get_model(config["model"])(config, batches._dataset)
    trainer = Trainer(config, model)
    names = watch.question.history.vocabulary.to_pylist()
    ids = np.append(dataset.token2id("item_id", [str(name) for name in names]), 0)  # -1 is padding
    ids = torch.from_numpy(ids)
    length = config["MAX_ITEM_LIST_LENGTH"]

    @torch.no_grad()
    def scorer(log, rows):
        items, lengths = log.last(rows, length)
        items = np.pad(items, ((0, 0), (0, length - items.shape[1])), constant_values=-1)
        asked = Interaction({"item_id_list": ids[torch.from_numpy(items)], "item_length": torch.from_numpy(lengths)})
        model.eval()
        scores = model.full_sort_predict(asked)[:, ids[:-1]]
        model.train()
        return scores

    class Done(Exception):
        pass

    def watched():
        for batch in batches:
            yield batch
            if watch.step(scorer):
                raise Done

    watch.ready(
        f"d={config['hidden_size']}, {config['n_layers']} layers, rows of {length}, "
        f"batch {config['train_batch_size']}, {len(batches):,} steps an epoch, Adam {config['learning_rate']:g}"
    )
    with suppress(Done):
        for epoch in range(config["epochs"]):
            trainer._train_epoch(watched(), epoch)
    watch.end(scorer)


def rectools(path, settings, watch):
    import pandas as pd
    from pytorch_lightning import Trainer, seed_everything
    from pytorch_lightning.callbacks import LambdaCallback
    from rectools.dataset import Dataset
    from rectools.models import BERT4RecModel

    seed_everything(0)
    unique = pd.unique  # which took lists and tuples before pandas 3
    pd.unique = lambda x: unique(np.array(x, object) if isinstance(x, list | tuple) else x)
    frame = pd.read_csv(path, sep="\t")
    frame.columns = ["user_id", "item_id", "datetime"]
    users = frame.groupby("user_id")
    held = (users.cumcount(ascending=False) < 2) & (users["item_id"].transform("size") > 2)
    frame = frame[~held].assign(weight=1.0, datetime=lambda x: pd.to_datetime(x["datetime"], unit="s"))
    dataset = Dataset.construct(frame)
    names = watch.question.history.vocabulary.to_pylist()

    @torch.no_grad()
    def scorer(log, rows):
        net, parts = model.lightning_model.torch_model, model.data_preparator
        known = parts.item_id_map.to_internal.reindex(names).fillna(-1).to_numpy(dtype=np.int64)
        items = np.append(known, -1)[log.last(rows, model.session_max_len - 1)[0]]
        asked = parts._collate_fn_recommend([(row[row >= 0].tolist(), [], {}) for row in items])
        net.eval()
        vectors = net.item_model.get_all_embeddings()
        scores = net.encode_sessions(asked, vectors)[:, -1] @ vectors.T
        net.train()
        scores = scores[:, np.maximum(known, 0)]
        scores[:, known < 0] = torch.nan  # items it has not met come last
        return scores

    def begin(trainer, module):
        watch.ready(
            f"d={model.n_factors}, {model.n_blocks} layers, rows of {model.session_max_len}, batch {model.batch_size}, "
            f"{len(trainer.train_dataloader)} steps an epoch, loss {model.loss}, Adam {model.lr:g}"
        )

    def after(trainer, *_):
        trainer.should_stop = watch.step(scorer)

    def trainer():
        calls = LambdaCallback(on_train_start=begin, on_train_batch_end=after)
        quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
        how = {"accelerator": "cpu", "devices": 1, "max_epochs": 10**6, "enable_model_summary": False}
        return Trainer(callbacks=[calls], **quiet, **how)

    model = BERT4RecModel(get_trainer_func=trainer, **settings)
    model.fit(dataset)
    watch.end(scorer)


SIDES = {
    "popular": lambda *given: floor(popular, *given),
    "markov": lambda *given: floor(markov, *given),
    "bert4rec": lambda *given: twoviews("bert4rec", *given),
    "sasrec": lambda *given: twoviews("sasrec", *given),
    "recbole": recbole,
    "rectools": rectools,
}


def write(log: Histories, folder: Path, name: str) -> Path:
    """The log as an atomic file, which all sides read. Times are places in a history: RecBole keeps them as float32."""
    path = folder / name / f"{name}.inter"
    path.parent.mkdir()
    lengths = log.lengths
    users = np.repeat(np.arange(len(log)), lengths)
    times = np.arange(len(users)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    table = pa.table([users, log.vocabulary.take(log.flat(log.items)), times], ["user_id", "item_id", "timestamp"])
    with path.open("wb") as file:
        file.write(b"user_id:token\titem_id:token\ttimestamp:float\n")
        csv.write_csv(table, file, csv.WriteOptions(include_header=False, delimiter="\t", quoting_style="none"))
    return path


def measured(side: str, paths: list[Path], budget: float, users: int, threads: int) -> Found:
    """One side in this process, first on the small log, then on the other."""
    torch.set_num_threads(threads)
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    sys.argv = sys.argv[:1]  # RecBole would take settings from there
    os.chdir(paths[0].parent)  # where it leaves its logs
    name, _, settings = side.partition(":")
    given = {key: number(value) for key, _, value in (one.partition("=") for one in settings.split(",") if one)}
    for path, seconds in zip(paths, (0.0, budget), strict=True):
        question = divided(histories(str(path))).test
        assert question is not None
        watch = Watch(question, seconds, users)
        SIDES[name](path, given, watch)
    return watch.found


def number(text: str):
    for kind in (int, float):
        with suppress(ValueError):
            return kind(text)
    return text


def reached(found: Found, level: float) -> str:
    """Seconds until the course of a side first comes to a level, on straight lines between its points."""
    before, below = found.prepared, 0.0
    for seconds, _, ndcg in found.course:
        if ndcg >= level:
            return f"{before + (seconds - before) * (level - below) / (ndcg - below):.0f} s"
        before, below = seconds, ndcg
    return "-"


def made_up() -> Histories:
    g = np.random.default_rng(0)
    items, starts = g.integers(0, 40, 6400).astype(np.int32), np.arange(320) * 20
    return Histories("small", items, starts, starts + 20, pa.nulls(320), pa.array([f"{i + 1}" for i in range(40)]))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="ml-1m", help="ml-1m, beauty (in TWOVIEWS_DATA) or a log")
    parser.add_argument("--sides", nargs="+", default=list(SIDES))
    parser.add_argument("--seconds", type=float, default=300, help="of the processor, for each side")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--users", type=int, default=2000, help="of whom the last event is looked for during training")
    parser.add_argument("--levels", type=float, nargs="+", default=[0.03, 0.06, 0.09, 0.12])
    args = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = str(args.threads)
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    data = Path(os.environ.get("TWOVIEWS_DATA", default)) / FILES[args.data] if args.data in FILES else args.data
    with tempfile.TemporaryDirectory() as name:
        log = histories(str(data))
        paths = [write(made_up(), Path(name), "small"), write(log, Path(name), "log")]
        print(
            f"{log.name}: {len(log):,} users, {log.catalogue:,} items, {log.events:,} events; torch {torch.__version__}"
        )
        print(f"{args.threads} threads, {args.seconds:.0f} s a side\n", flush=True)
        heads = " | ".join(f"s to NDCG {level:g}" for level in args.levels)
        print(f"| side | before training | {heads} | steps | seconds | Recall@10 | NDCG@10 | memory | settings |")
        print("|---|---:|" + "---:|" * (len(args.levels) + 5) + "---|", flush=True)
        courses = []
        for side in args.sides:
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
                try:
                    found = pool.submit(measured, side, paths, args.seconds, args.users, args.threads).result()
                except ImportError as why:
                    courses.append(f"{side}: not run, {why}")
                    continue
            times = " | ".join(reached(found, level) for level in args.levels)
            print(
                f"| {side} | {found.prepared:.1f} s | {times} | {found.steps:,} | {found.seconds:.0f} s | "
                f"{found.recall:.4f} | {found.ndcg:.4f} | {found.memory / 1e6:,.0f} MB | {found.settings} |",
                flush=True,
            )
            points = ", ".join(f"{seconds:.0f} s {ndcg:.4f}" for seconds, _, ndcg in found.course)
            courses.append(f"{side}: {points}")
    print("\nNDCG@10 in the course of training:", *courses, sep="\n")
