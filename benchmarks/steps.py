"""Training steps without the views: ours, lightly's example and solo-learn's formulation, the same work in one run.

    pip install 'twoviews[benchmarks]'
    python benchmarks/steps.py [--encoder resnet18] [--batch 64] [--size 32] [--steps 8] [--rounds 3] [--threads 2]
    python benchmarks/steps.py --profile simclr            # where the time of our step goes

Every side runs in processes of its own, in turn, on the same random pictures, with the same encoder and SGD without
momentum. Ours is `twoviews.train.train` with all it does beside the step (the log, looks at the embeddings). lightly is
put together as its examples do (examples/pytorch/{simclr,moco}.py). solo-learn cannot be installed beside current
versions of torch; its formulation (each crop through the network by itself, exp of all similarities with masks of
indices, two queues in a symmetric MoCo, a linear classifier trained beside on h) is written down here.
"""

import argparse
import copy
import json
import resource
import subprocess
import sys
import time
from contextlib import suppress
from statistics import median

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from twoviews.encoders import ENCODERS
from twoviews.optim import constant, sgd
from twoviews.types import Batch

QUEUE, HIDDEN, DIM, LR = 4096, 512, 128, 0.06
ROWS = [
    ("simclr", ["twoviews", "lightly", "solo-learn"]),
    ("moco", ["twoviews", "lightly"]),
    ("moco, symmetric", ["twoviews", "solo-learn"]),
]


def make_encoder(args) -> nn.Module:
    torch.manual_seed(0)
    stem = {"stem": "cifar"} if args.encoder.startswith("resnet") and args.size < 64 else {}
    return ENCODERS[args.encoder](**stem)


class Pictures:
    """The same two batches of views again and again, and when each was asked for."""

    accumulate = 1

    def __init__(self, args):
        self.steps = args.steps
        shape = (args.batch, 3, args.size, args.size)
        self.views = [torch.randn(shape, generator=torch.Generator().manual_seed(v)) for v in range(2)]
        self.asked: list[float] = []

    def epoch(self, epoch: int, start: int = 0):
        for _ in range(start, self.steps):
            self.asked.append(time.perf_counter())
            yield Batch(self.views, torch.arange(len(self.views[0])))


def twoviews_(args, pictures: Pictures) -> None:
    from twoviews.methods import MoCo, SimCLR
    from twoviews.train import Stopped, train

    encoder = make_encoder(args)
    if args.method == "simclr":
        method = SimCLR(encoder, DIM, HIDDEN, 0.5)
    else:
        method = MoCo(encoder, DIM, HIDDEN, QUEUE, 0.1, 0.99, symmetric="symmetric" in args.method)
    method.to(memory_format=torch.channels_last)
    # As in a long run, which looks closely at every 20th step; a short one looks more often.
    enough = lambda: "enough steps" if len(pictures.asked) >= args.steps else None  # noqa: E731
    with suppress(Stopped):
        train(method, pictures, sgd(method, LR, 0.0), constant, epochs=10**6, device=torch.device("cpu"), stop=enough)


def lightly(args, pictures: Pictures) -> None:
    from lightly.loss import NTXentLoss
    from lightly.models.modules import MoCoProjectionHead, SimCLRProjectionHead
    from lightly.models.utils import deactivate_requires_grad, update_momentum

    encoder = make_encoder(args)
    simclr = args.method == "simclr"
    head = (SimCLRProjectionHead if simclr else MoCoProjectionHead)(encoder.dim, HIDDEN, DIM)
    slow = copy.deepcopy([encoder, head])
    for part in slow:
        deactivate_requires_grad(part)
    loss_of = NTXentLoss(0.5) if simclr else NTXentLoss(0.1, memory_bank_size=(QUEUE, DIM))
    optimizer = torch.optim.SGD([*encoder.parameters(), *head.parameters()], LR)
    for batch in pictures.epoch(0):
        a, b = batch.views
        if simclr:
            loss = loss_of(head(encoder(a)), head(encoder(b)))
        else:
            update_momentum(encoder, slow[0], 0.99)
            update_momentum(head, slow[1], 0.99)
            q = head(encoder(a))
            with torch.no_grad():
                k = slow[1](slow[0](b))
            loss = loss_of(q, k)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()


def solo_learn(args, pictures: Pictures) -> None:
    encoder = make_encoder(args)
    head = nn.Sequential(nn.Linear(encoder.dim, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, DIM))
    classifier = nn.Linear(encoder.dim, 10)
    slow_encoder, slow_head = copy.deepcopy((encoder, head))
    queue = normalize(torch.randn(2, DIM, QUEUE), dim=1)
    place = 0
    optimizer = torch.optim.SGD([*encoder.parameters(), *head.parameters(), *classifier.parameters()], LR)
    labels = torch.arange(args.batch) % 10
    for batch in pictures.epoch(0):
        h = [encoder(x) for x in batch.views]
        z = [head(x) for x in h]
        if args.method == "simclr":
            loss = solo_simclr(torch.cat(z), batch.ids.repeat(2), 0.5)
        else:
            with torch.no_grad():
                keys = [normalize(slow_head(slow_encoder(x)), dim=1) for x in batch.views]
            queries = [normalize(x, dim=1) for x in z]
            old = queue.clone()
            loss = solo_moco(queries[0], keys[1], old[1], 0.1) + solo_moco(queries[1], keys[0], old[0], 0.1)
            queue[:, :, place : place + args.batch] = torch.stack(keys).mT
            place = (place + args.batch) % QUEUE
        loss = loss + sum(cross_entropy(classifier(x.detach()), labels) for x in h) / 2
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if args.method != "simclr":
            for slow, fast in ((slow_encoder, encoder), (slow_head, head)):
                for p, q in zip(slow.parameters(), fast.parameters(), strict=True):
                    p.data = 0.99 * p.data + 0.01 * q.data


def solo_simclr(z: Tensor, ids: Tensor, temperature: float) -> Tensor:
    z = normalize(z, dim=1)
    similar = torch.exp(torch.einsum("id,jd->ij", z, z) / temperature)
    same = ids[:, None] == ids[None]
    positives = same.clone().fill_diagonal_(False)
    positive, negative = (similar * positives).sum(1), (similar * ~same).sum(1)
    return -torch.log(positive / (positive + negative)).mean()


def solo_moco(q: Tensor, k: Tensor, queue: Tensor, temperature: float) -> Tensor:
    positive, negative = torch.einsum("nd,nd->n", q, k)[:, None], torch.einsum("nd,dk->nk", q, queue)
    logits = torch.cat([positive, negative], 1) / temperature
    return cross_entropy(logits, torch.zeros(len(q), dtype=torch.int64))


SIDES = {"twoviews": twoviews_, "lightly": lightly, "solo-learn": solo_learn}


def one(args) -> dict[str, float]:
    """A side's median step after two to warm up, in this process."""
    torch.set_num_threads(args.threads)
    pictures = Pictures(args)
    SIDES[args.side](args, pictures)
    seconds = [b - a for a, b in zip(pictures.asked, pictures.asked[1:], strict=False)][2:]
    used = resource.getrusage(resource.RUSAGE_SELF)
    return {"seconds": median(seconds), "MiB": used.ru_maxrss / 1024, "system": used.ru_stime}


def profile(args) -> None:
    args.method, args.side = args.profile, "twoviews"
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as seen:
        one(args)
    print(seen.key_averages().table(sort_by="self_cpu_time_total", row_limit=15, max_name_column_width=45))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", default="resnet18", choices=ENCODERS)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--size", type=int, default=32, help="pixels of a side")
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--profile", metavar="METHOD", help="simclr, moco or 'moco, symmetric'")
    parser.add_argument("--method", help=argparse.SUPPRESS)
    parser.add_argument("--side", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.profile:
        return profile(args)
    if args.side:
        return print(json.dumps(one(args)))

    print(
        f"{args.encoder}, batch {args.batch}, {args.size} pixels, {args.threads} threads, torch {torch.__version__}\n"
    )
    print(
        "| | side | steps a second | ours / theirs | peak MiB | seconds in the system |\n|---|---|---:|---:|---:|---:|"
    )
    for method, sides in ROWS:
        found: dict[str, list[dict[str, float]]] = {side: [] for side in sides}
        for _ in range(args.rounds):  # in turn, so that a drift of the machine meets all
            for side in sides:
                call = [sys.executable, __file__, *sys.argv[1:], "--method", method, "--side", side]
                found[side].append(json.loads(subprocess.run(call, capture_output=True, check=True).stdout))
        ours = median(r["seconds"] for r in found["twoviews"])
        for side, runs in found.items():
            seconds, peak, system = (median(r[k] for r in runs) for k in ("seconds", "MiB", "system"))
            print(f"| {method} | {side} | {1 / seconds:.2f} | {seconds / ours:.2f}x | {peak:,.0f} | {system:.1f} |")


if __name__ == "__main__":
    main()
