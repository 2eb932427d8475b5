"""CPC's loss beside the published forms, its share of a training step, and all (t, k) beside one t a batch.

    python benchmarks/cpc.py [loss step accuracy] [--threads 1] [--repeats 5] [--device cpu]
    python benchmarks/cpc.py loss --batch 4 --frames 128 --dim 256 --steps 12
    python benchmarks/cpc.py step --batches 8 16 64 --width 512
    python benchmarks/cpc.py accuracy --sound fsdd_flac.zip --seconds 120 --seeds 0 1 2

Times are medians, of CPU time where there is one thread on a CPU; all sides run in turn in one process. Memory is a
step's peak above the inputs, gradients included, each side in a process of its own (losses.py says how).

loss: forward and backward from predictions p and frames z that need a gradient.

    gather    as CPC_audio (Riviere et al. 2020): 128 frames gathered for each (b, t), for each k joined with the
              positive, multiplied, averaged over D. Only the first T - K frames predict
    a loop    cross_entropy of a product of all frames with all frames of the batch, k by k
    ours      `ahead` with all candidates, with as many as gather's drawn for each row, and in each mode

Times as Python's allocator has it, and with freed memory kept, as while training with us.

step: forward and backward of encoder `wave`, and of heads and loss from its z and c; a share is over the encoder's.

accuracy: FSDD (takes 10-49 train, 0-4 test), two equal encoders with as much CPU time for training each, one by
all (t, k), one as jefflai108's code: at each batch one t, the same for all, negatives the other windows' frames at that
place. Both are read by logistic regression on the mean and deviation of c of a clip, and on frames.
"""

import argparse
import ctypes
import os
import statistics
import time
from contextlib import nullcontext
from pathlib import Path

import torch
from losses import apart, resident
from torch.nn.functional import cross_entropy

from twoviews.data.dice import Dice
from twoviews.data.loader import collate
from twoviews.data.sounds import sounds
from twoviews.data.soundviews import whole, windows
from twoviews.encoders.wave import wave
from twoviews.malloc import kept
from twoviews.methods.cpc import CPC
from twoviews.objectives.predictive import ahead
from twoviews.types import Batch

DATA = Path(os.environ.get("TWOVIEWS_DATA", Path(__file__).parents[2] / "shared" / "data"))
DRAWN = 128


def gather(p, z, seen):
    """z (B, T, D) repeated at (b, t) by indices (B, 128, T - K), a positive of each k put before, and a mean over D."""
    steps, (batch, frames, dim) = len(p), z.flatten(2, 3).shape
    size, flat = frames - steps, z.reshape(-1, z.shape[-1])
    index = torch.randint(len(flat), (batch * DRAWN * size,), device=z.device)
    others = flat[index].view(batch, DRAWN, size, dim)
    right = torch.zeros(batch * size, dtype=torch.long, device=z.device)
    losses = []
    for k in range(steps):
        every = torch.cat([z[:, None, k + 1 : k + 1 + size, 0], others], 1)  # (B, 129, T - K, D)
        scores = (p[k][:, None, :size, 0] * every).mean(3)
        losses.append(cross_entropy(scores.transpose(1, 2).reshape(-1, 1 + DRAWN), right))
    return torch.stack(losses).mean()


def loop(p, z, seen):
    batch, frames, _, dim = z.shape
    place = torch.arange(batch * frames, device=z.device).view(batch, frames)
    losses = []
    for k in range(len(p)):
        scores = p[k][:, : frames - k - 1, 0].reshape(-1, dim) @ z.view(-1, dim).T / dim**0.5
        losses.append(cross_entropy(scores, place[:, k + 1 :].reshape(-1)))
    return torch.stack(losses).mean()


def ours(**settings):
    return lambda p, z, seen: ahead(p, z, seen, **{"group": len(z)} | settings).loss


SIDES = {
    f"gather, {DRAWN} drawn": gather,
    "a loop over k, all": loop,
    "**ours**, all": ours(),
    f"**ours**, {DRAWN} drawn": ours(sampled=DRAWN),
    "**ours**, others": ours(negatives="others"),
    "**ours**, current": ours(negatives="current"),
    "**ours**, 2 neighbours out": ours(neighbours=2),
}


def clock(device: str, threads: int):
    return time.process_time if device == "cpu" and threads == 1 else time.perf_counter


def in_turn(runs, repeats: int, now, memory=kept):
    """Median seconds of each run."""
    spent: dict[str, list[float]] = {side: [] for side in runs}
    with memory():
        for turn in range(repeats + 1):
            for side, run in runs.items():
                begun = now()
                run()
                if turn:
                    spent[side].append(now() - begun)
    return {side: statistics.median(values) for side, values in spent.items()}


def step(side: str, steps: int, batch: int, frames: int, dim: int, device: str):
    """A function that does forward and backward on tensors made once, and returns the loss."""
    g = torch.Generator().manual_seed(0)
    leaves = [torch.randn(s, generator=g) for s in ((steps, batch, frames, 1, dim), (batch, frames, 1, dim))]
    leaves = [x.to(device).requires_grad_() for x in leaves]
    seen = torch.ones(batch, frames, 1, dtype=torch.bool, device=device)

    def run() -> float:
        for x in leaves:
            x.grad = None
        value = SIDES[side](*leaves, seen)
        value.backward()
        return value.item()  # waits for the device

    return run


def peak(side: str, steps: int, batch: int, frames: int, dim: int, threads: int, device: str) -> float:
    """MB above the inputs."""
    torch.set_num_threads(threads)
    step(side, 2, 2, 16, dim, device)()
    run = step(side, steps, batch, frames, dim, device)
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run()
        return (torch.cuda.max_memory_allocated() - before) / 1e6
    ctypes.CDLL(None).malloc_trim(0)
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")
    before = resident("VmRSS")
    run()
    return (resident("VmHWM") - before) / 1e6


def losses(args) -> None:
    shape = args.steps, args.batch, args.frames, args.dim, args.device
    print(f"\nK={args.steps}, B={args.batch}, T={args.frames}, D={args.dim}\n")
    print("| loss | time | gather / it | memory kept | gather / it | peak | gather / it |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    runs, now = {side: step(side, *shape) for side in SIDES}, clock(args.device, args.threads)
    plain, fast = (in_turn(runs, args.repeats, now, memory) for memory in (nullcontext, kept))
    used = {side: apart(peak, side, *shape[:-1], args.threads, args.device) for side in SIDES}
    first = next(iter(SIDES))
    for side in SIDES:
        cells = [side]
        for found in (plain, fast):
            cells += [f"{1e3 * found[side]:,.0f} ms", f"{found[first] / found[side]:.1f}x"]
        print("|", " | ".join([*cells, f"{used[side]:,.0f} MB", f"{used[first] / used[side]:.0f}x"]), "|")


def shares(args) -> None:
    print("\n| B | samples | width | group | encoder | heads | loss | heads / encoder | loss / encoder |")
    print("|---:|---:|---:|---:|---:|---:|---:|---:|---:|")
    for batch in args.batches:
        method = CPC(wave(dim=256, width=args.width), group=args.group).to(args.device)
        x = torch.randn(batch, args.samples, device=args.device)
        with torch.no_grad():
            found = method.encoder.places(x)
            scored = method.heads.sides(found.c, found.z)
        z, c = (x.clone().requires_grad_() for x in (found.z, found.c))
        p, q = (x.clone().requires_grad_() for x in scored)

        def encoder(method=method, x=x, z=found.z, c=found.c):
            found = method.encoder.places(x)
            torch.autograd.backward([found.z, found.c], [z, c])
            wait(args.device)

        def heads(method=method, z=z, c=c, scored=scored):
            torch.autograd.backward(method.heads.sides(c, z), scored)
            wait(args.device)

        def loss(p=p, q=q, seen=found.seen):
            ahead(p, q, seen, group=args.group).loss.backward()
            wait(args.device)

        runs = {"encoder": encoder, "heads": heads, "loss": loss}
        s = in_turn(runs, args.repeats, clock(args.device, args.threads))
        cells = [batch, f"{args.samples:,}", args.width, args.group, *(f"{1e3 * s[name]:,.0f} ms" for name in runs)]
        cells += [f"{s[name] / s['encoder']:.0%}" for name in ("heads", "loss")]
        print("|", " | ".join(map(str, cells)), "|", flush=True)


def wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def one_t(method, x):
    """The loss at one random t, the same for all windows: whose frame at t + k is it, among the batch's at t + k?"""
    found = method.encoder.places(x)
    z, c, seen = found.z[:, :, 0], found.c[:, :, 0], found.seen[:, :, 0]
    t = int(torch.randint(z.shape[1] - method.steps, ()))
    p = method.heads(c[:, t])  # (K, B, D)
    scores = p @ z[:, t + 1 : t + 1 + method.steps].permute(1, 2, 0) / z.shape[-1] ** 0.5  # (K, B, B)
    there = seen[:, t + 1 : t + 1 + method.steps].T  # (K, B)
    scores = scores.masked_fill(~there[:, None], -torch.inf).transpose(1, 2)
    right = torch.arange(len(x)).expand_as(there).masked_fill(~there, -100)
    return cross_entropy(scores, right) if there.any() else scores.new_zeros(()) * p.sum()


def accuracy(args) -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    source = sounds(args.sound, labels="{digit}_{speaker}_{take}", label="digit", speaker="speaker", rate=8000)
    takes = torch.tensor([int(Path(source.key(i)).stem.split("_")[-1]) for i in range(len(source))])
    names = [Path(source.key(i)).stem.split("_") for i in range(len(source))]
    clips = [source.read(i) for i in range(len(source))]
    train = (takes >= 10).nonzero()[:, 0]

    def features(method, some):
        means, frames, owner = [], [], []
        for i in some.split(100):
            canvas, sizes = collate([clips[j] for j in i])
            (x,) = whole()(canvas, sizes, Dice(0, 0, i))
            with torch.no_grad():
                found = method.encoder.places(x)
            for j, c, seen in zip(i.tolist(), found.c[:, :, 0], found.seen[:, :, 0], strict=True):
                c = c[seen]
                means.append(torch.cat([c.mean(0), c.std(0)]))
                frames.append(c[2:-2:4])
                owner += [j] * len(frames[-1])
        return torch.stack(means).numpy(), torch.cat(frames).numpy(), owner

    print(f"\n{args.seconds:g} CPU seconds of training each, B={args.batch}, width {args.small}\n")
    print("| seed | loss over | steps | speaker, clip | digit, clip | speaker, frame | digit, frame |")
    print("|---:|---|---:|---:|---:|---:|---:|")
    for seed in args.seeds:
        for side in ("untrained", "one t", "all t, k"):
            torch.manual_seed(seed)
            method = CPC(wave(8000, dim=args.small, width=args.small))
            optimizer = torch.optim.Adam(method.parameters(), lr=args.lr)
            steps, begun = 0, time.process_time()
            while side != "untrained" and time.process_time() - begun < args.seconds:
                ids = train[torch.randint(len(train), (args.batch,))]
                canvas, sizes = collate([clips[j] for j in ids])
                (x,) = windows(4096)(canvas, sizes, Dice(seed, steps, ids))
                loss = one_t(method, x) if side == "one t" else method(Batch([x], ids)).loss
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                steps += 1
            there, here = (features(method.eval(), some.nonzero()[:, 0]) for some in (takes >= 5, takes < 5))
            cells = [seed, side, steps]
            for level in (0, 1):
                for field in (1, 0):
                    y = [[names[j][field] for j in owner] for owner in (there[2], here[2])]
                    if level == 0:
                        y = [[names[j][field] for j in some.nonzero()[:, 0]] for some in (takes >= 5, takes < 5)]
                    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=200))
                    cells.append(f"{probe.fit(there[level], y[0]).score(here[level], y[1]):.3f}")
            print("|", " | ".join(map(str, cells)), "|", flush=True)


PARTS = {"loss": losses, "step": shares, "accuracy": accuracy}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", default=["loss", "step"], choices=PARTS)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--frames", type=int, default=128)
    parser.add_argument("--dim", type=int, default=256)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--batches", type=int, nargs="*", default=[8, 16])
    parser.add_argument("--samples", type=int, default=20480)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--group", type=int, default=8)
    parser.add_argument("--sound", default=str(DATA / "audio" / "fsdd_flac.zip"))
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seeds", type=int, nargs="*", default=[0])
    parser.add_argument("--small", type=int, default=64)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    print(f"torch {torch.__version__}, {args.threads} threads, {args.device}")
    for part in args.parts:
        PARTS[part](args)
