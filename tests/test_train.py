"""The loop: interrupted equals uninterrupted, bit for bit; accumulation, clipping, precision, bad losses."""

import contextlib
import functools
import json
import os
import signal

import pytest
import torch
from conftest import Numbers, Tiny

from twoviews import checkpoint
from twoviews.errors import TrainingError, UserError
from twoviews.log import Log
from twoviews.methods import PAIRS
from twoviews.methods.moco import MoCo
from twoviews.methods.simclr import SimCLR
from twoviews.optim import cosine, lars, sgd
from twoviews.train import Interrupted, train

CPU = torch.device("cpu")
SMALL = {"dim": 4, "hidden": 8, "queue": 20}


class Stops(Numbers):
    """Batches during which somebody asks the process to stop."""

    def __init__(self, at, signum=signal.SIGTERM, **kwargs):
        super().__init__(**kwargs)
        self.at, self.signum, self.given = at, signum, 0

    def epoch(self, epoch, start=0):
        for batch in super().epoch(epoch, start):
            self.given += 1
            if self.given == self.at:
                os.kill(os.getpid(), self.signum)
            yield batch


class Bad(Numbers):
    def epoch(self, epoch, start=0):
        for i, batch in enumerate(super().epoch(epoch, start)):
            if epoch == 1 and i == 2:
                batch.views[0][0, 0] = torch.inf
            yield batch


def build(name="moco", optimizer=sgd):
    torch.manual_seed(0)
    kwargs = {"simclr": {"dim": 4, "hidden": 8}, "supervised": {"classes": 3}, "moco_v1": {"dim": 4, "queue": 20}}
    kwargs |= {"end_to_end": {"dim": 4, "hidden": 8}, "directclr": {}, "instdisc": {"dim": 4, "items": 8}}
    method = PAIRS[name](Tiny(torch.nn.BatchNorm1d), **kwargs.get(name, SMALL))
    return method, optimizer(method, lr=0.1)


def run(method, optimizer, batches, folder=None, **settings):
    settings = {"epochs": 3, "seed": 5} | settings
    schedule = functools.partial(cosine, warmup=0.2)
    return train(method, batches, optimizer, schedule, device=CPU, folder=folder, **settings)


def equal(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("name", PAIRS)
def test_interrupted_equals_uninterrupted(name, precision, tmp_path):
    whole, optimizer = build(name)
    run(whole, optimizer, Numbers(), precision=precision)

    parts, optimizer = build(name)
    with pytest.raises(Interrupted) as stopped:
        run(parts, optimizer, Stops(at=6), tmp_path, precision=precision)
    assert stopped.value.step == 6
    assert stopped.value.signum == signal.SIGTERM
    parts, optimizer = build(name)
    with torch.no_grad():
        for p in parts.parameters():
            p.add_(1)  # nothing of the new start may count
    assert run(parts, optimizer, Numbers(), tmp_path, precision=precision) == 12
    assert equal(whole, parts)


def test_interrupted_with_lars_and_accumulation_equals_uninterrupted(tmp_path):
    whole, optimizer = build("simclr", lars)
    run(whole, optimizer, Numbers(accumulate=2), clip=1.0)
    parts, optimizer = build("simclr", lars)
    with pytest.raises(Interrupted):
        run(parts, optimizer, Stops(at=7, signum=signal.SIGINT, accumulate=2), tmp_path, clip=1.0)
    parts, optimizer = build("simclr", lars)
    run(parts, optimizer, Numbers(accumulate=2), tmp_path, clip=1.0)
    assert equal(whole, parts)


def test_accumulated_micro_batches_are_the_mean_of_their_gradients():
    a, _ = build()
    b, optimizer = build()
    one, two = Numbers().batch(0), Numbers().batch(1)
    for batch in (one, two):
        torch.manual_seed(9)
        out = a(batch)
        (out.loss / 2).backward()
        a.after_batch(out)
    expected = [p.grad.clone() for p in a.parameters() if p.requires_grad]

    seen = []
    step = optimizer.step
    optimizer.step = lambda *args: seen.extend(p.grad.clone() for p in b.parameters() if p.requires_grad) or step(*args)
    run(b, optimizer, Numbers(steps=1, accumulate=2), epochs=1)
    for e, s in zip(expected, seen, strict=True):
        torch.testing.assert_close(e, s)
    torch.testing.assert_close(a.queue.keys, b.queue.keys)


def test_clipping_bounds_the_gradient():
    method, optimizer = build("simclr")
    norms = []
    step = optimizer.step
    optimizer.step = lambda *a: (
        norms.append(torch.stack([p.grad.norm() for p in method.parameters()]).norm().item()),
        step(*a),
    )
    run(method, optimizer, Numbers(), clip=0.01, epochs=1)
    assert max(norms) <= 0.01 * (1 + 1e-4)


def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_step(tmp_path):
    method, optimizer = build("simclr")
    with pytest.raises(TrainingError, match="not finite at step 7"):
        run(method, optimizer, Bad(), tmp_path)
    assert not checkpoint.steps(tmp_path)


class Readers(Numbers):
    """Counts how many of its epochs are open, each of which holds readers."""

    open = most = 0

    def epoch(self, epoch, start=0):
        self.open += 1
        self.most = max(self.most, self.open)
        try:
            yield from super().epoch(epoch, start)
        finally:
            self.open -= 1


def test_the_readers_of_an_epoch_go_before_those_of_the_next_come():
    batches = Readers()
    run(*build("simclr"), batches)
    assert (batches.most, batches.open) == (1, 0)


def test_metrics_are_told_once_also_after_a_stop(tmp_path):
    for batches in (Stops(at=5), Numbers()):
        method, optimizer = build("simclr")
        log = Log(tmp_path, quiet=True)
        if isinstance(batches, Stops):
            with pytest.raises(Interrupted):
                run(method, optimizer, batches, tmp_path, log=log)
            with (tmp_path / "metrics.jsonl").open("a") as f:
                f.write('{"step": 6, "loss": 1}\n{"step": 7, "lo')  # what a kill may leave
        else:
            run(method, optimizer, batches, tmp_path, log=log)
        log.close()
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(1, 13))
    assert {"loss", "lr", "items_per_second", "data_wait"} <= lines[0].keys()


def test_every_epoch_is_called_and_logged(tmp_path):
    method, optimizer = build("simclr")
    log = Log(tmp_path, quiet=True)
    run(method, optimizer, Numbers(), log=log, every_epoch=lambda epoch: {"epoch": epoch} if epoch != 2 else {})
    log.close()
    assert [
        e["epoch"] for e in map(json.loads, (tmp_path / "metrics.jsonl").read_text().splitlines()) if "epoch" in e
    ] == [1, 3]


def test_only_the_last_two_checkpoints_are_kept_and_a_half_written_one_does_not_count(tmp_path):
    method, _ = build("simclr")
    for step in (1, 2, 3):
        checkpoint.save(tmp_path, step, method, {"step": step})
    (tmp_path / "checkpoints" / ".step-00000004.tmp").mkdir()
    assert [p.name for p in checkpoint.steps(tmp_path)] == ["step-00000002", "step-00000003"]


def test_a_full_disk_is_one_clear_line_and_loses_nothing(tmp_path, monkeypatch):
    method, _ = build("simclr")
    checkpoint.save(tmp_path, 1, method, {"step": 1})

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint.torch, "save", full)
    with pytest.raises(UserError, match="the disk is full") as error:
        checkpoint.save(tmp_path, 2, method, {"step": 2})
    assert "\n" not in str(error.value)
    assert [p.name for p in checkpoint.steps(tmp_path)] == ["step-00000001"]
    assert not list((tmp_path / "checkpoints").glob(".*"))


def test_a_checkpoint_is_never_unpickled(tmp_path):
    method, optimizer = build("simclr")
    folder = checkpoint.save(tmp_path, 1, method, {"step": 1})
    torch.save({"step": os.system}, folder / "state.pt")
    with pytest.raises(UserError, match="cannot be read"):
        checkpoint.load(folder, method)


def test_weights_of_another_method_are_refused_in_words(tmp_path):
    folder = checkpoint.save(tmp_path, 1, build("simclr")[0], {"step": 1})
    with pytest.raises(UserError, match="do not fit MoCo"):
        checkpoint.load(folder, MoCo(Tiny(), 4, 8, 20))


def test_precision_must_be_known():
    method, optimizer = build("simclr")
    with pytest.raises(UserError, match="fp32, bf16, fp16"):
        run(method, optimizer, Numbers(), precision="half")


def test_the_constructor_is_the_paper():
    method = SimCLR(Tiny())
    assert method.temperature == 0.1
    assert method.head[-1].num_features == 128


def test_tensorboard_gets_the_same_numbers(tmp_path):
    event_accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    method, optimizer = build("simclr")
    with contextlib.closing(Log(tmp_path, quiet=True, loggers=("tensorboard",))) as log:
        run(method, optimizer, Numbers(), epochs=1, log=log)
    seen = event_accumulator.EventAccumulator(str(tmp_path)).Reload().Scalars("loss")
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [s.step for s in seen] == [line["step"] for line in lines]
    assert [s.value for s in seen] == pytest.approx([line["loss"] for line in lines])


@pytest.mark.parametrize(("name", "message"), [("tensorbord", "did you mean 'tensorboard'"), ("wandb", "pip install")])
def test_a_logger_that_is_not_there_is_one_clear_line(name, message, tmp_path, monkeypatch):
    monkeypatch.setattr("twoviews.log.find_spec", lambda name: None)
    with pytest.raises(UserError, match=message):
        Log(tmp_path, loggers=(name,))
