"""Checkpoints: written whole or not at all, read without running anything.

RUN/checkpoints/step-00001200/method.safetensors    weights, memories, slow weights
RUN/checkpoints/step-00001200/state.pt              optimizer, scaler, step; loads with weights_only
RUN/encoder.safetensors                             the finished encoder alone, with torchvision's names for a ResNet
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from . import fsdp
from .calls import PACKAGE, accepts, rebuild
from .dist import rank
from .errors import UserError

KEEP = 2  # the last checkpoint and the one before
ROWS = 2**16  # of a table that are read together


def save(folder: Path, step: int, method: nn.Module, state: dict[str, Any]) -> Path:
    """Write checkpoints/step-N of a run's folder atomically and drop all but the last two.

    All is saved whole, so that any number of processes can go on from it, sharded or not. Rank 0 writes; where the
    weights are sharded all ranks must call, for each has a part to give.
    Raises UserError on a full disk or a folder that cannot be written; older checkpoints stay.
    """
    final = folder / "checkpoints" / f"step-{step:08d}"
    temporary = final.with_name(f".{final.name}.tmp")
    weights, state = tensors(method), fsdp.whole(state)
    if rank() != 0:
        return final
    with writing(final):
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        try:
            save_file(weights, temporary / "method.safetensors")
            torch.save(state, temporary / "state.pt")
            for file in temporary.iterdir():
                sync(file)
            if final.exists():
                shutil.rmtree(final)
            os.replace(temporary, final)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
    for old in steps(folder)[:-KEEP]:
        shutil.rmtree(old, ignore_errors=True)
    return final


def save_encoder(folder: Path, encoder: nn.Module) -> Path:
    """Write RUN/encoder.safetensors atomically."""
    return save_weights(encoder, folder / "encoder.safetensors")


def save_weights(module: nn.Module, final: Path) -> Path:
    """Write a module's state as .safetensors, whole or not at all."""
    with writing(final):
        temporary = final.with_suffix(".tmp")
        save_file(tensors(module), temporary)
        sync(temporary)
        os.replace(temporary, final)
    return final


def steps(folder: Path) -> list[Path]:
    """Complete checkpoints of a run, oldest first."""
    return sorted((folder / "checkpoints").glob("step-*"))


def load(checkpoint: Path, method: nn.Module) -> dict[str, Any]:
    """Load weights into `method` and return the training state.

    Raises UserError when the checkpoint cannot be read or belongs to another method.
    """
    file = checkpoint / "method.safetensors"
    try:
        state = torch.load(checkpoint / "state.pt", map_location="cpu", weights_only=True)
        found = None if _poured(file, method) else load_file(file)
    except (OSError, SafetensorError, RuntimeError, ValueError, EOFError, UnpicklingError) as error:
        raise UserError(
            f"checkpoint {checkpoint} cannot be read ({one_line(error)}); delete it to go on from the one before"
        ) from None
    if found is not None:
        fill(method, found, str(checkpoint))
    return state


def _poured(file: Path, module: nn.Module) -> bool:
    """Fill a module that is tables alone, some rows at a time, so that none is in memory twice. False: it is not."""
    own = {name: p.detach() for name, p in module.named_parameters()}
    with safe_open(file, "pt") as found:
        shapes = {name: found.get_slice(name).get_shape() for name in found.keys()}  # noqa: SIM118
    if own.keys() != module.state_dict().keys() or shapes != {name: list(p.shape) for name, p in own.items()}:
        return False
    if fsdp.is_sharded(module) or not all(shapes.values()):  # parts, or numbers without rows
        return False
    for name, table in own.items():
        for begin in range(0, len(table), ROWS):
            with safe_open(file, "pt") as found:  # anew: what was read stays in memory while a file is open
                table[begin : begin + ROWS] = found.get_slice(name)[begin : begin + ROWS]
    return True


def load_optimizer(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """`load_state_dict` of a state that was saved whole; what belongs to sharded weights is cut like them."""
    weights = [w for group in optimizer.param_groups for w in group["params"]]

    def part(value: Any, weight: Tensor) -> Any:
        alike = isinstance(value, Tensor) and value.shape == weight.shape
        return fsdp.cut(value, weight) if alike else value

    own = {i: {k: part(v, weights[i]) for k, v in values.items()} for i, values in state["state"].items()}
    optimizer.load_state_dict(state | {"state": own})


def load_encoder(run: str | Path, device: str | torch.device = "cpu", encoder: nn.Module | None = None) -> nn.Module:
    """The encoder of a run's folder in eval mode: the finished one, else that of the last checkpoint.

    run:     the folder of a run, or what `twoviews export --to huggingface` wrote.
    encoder: the module to fill, for one of your own; twoviews' are built from the run's settings.
    Raises UserError when the folder is neither or holds no weights yet.
    """
    run = Path(run)
    config = exported(run)
    description = config["encoder"] if config else read_run(run)["run"]["encoder"]
    if encoder is None:
        encoder = unfetched(rebuild(description))()
    if config:
        found = weights(run / "model.safetensors")
        found = part(found, "encoder.") if "method" in config else found
    elif (run / "encoder.safetensors").exists():
        found = weights(run / "encoder.safetensors")
    elif steps(run):
        found = part(weights(steps(run)[-1] / "method.safetensors"), "encoder.")
    else:
        raise UserError(f"{run} has no weights: it has not reached its first checkpoint, or diverged before")
    fill(encoder, found, str(run))
    return encoder.eval().to(device)


def exported(folder: Path) -> dict[str, Any] | None:
    """What config.json holds in a folder exported to huggingface; None for a run or a folder without it.

    Raises UserError when something else wrote it.
    """
    path = folder / "config.json"
    if (folder / "run.json").exists() or not path.exists():
        return None
    try:
        config = json.loads(path.read_text())
    except (OSError, ValueError):
        config = None
    if not isinstance(config, dict) or config.get("library_name") != PACKAGE or "encoder" not in config:
        raise UserError(f"{folder} is neither a run nor an encoder that {PACKAGE} exported to huggingface")
    return config


def weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a .safetensors file. Raises UserError when it cannot be read."""
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path} cannot be read ({one_line(error)})") from None


def part(found: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in found.items() if k.startswith(prefix)}


def unfetched(encoder: Callable[..., nn.Module]) -> Callable[..., nn.Module]:
    """The encoder without the weights it would fetch: those of the run take their place."""
    fetched = {"pretrained": False, "weights": None}
    return partial(encoder, **{name: off for name, off in fetched.items() if accepts(encoder, name)})


def read_run(run: str | Path) -> dict[str, Any]:
    """What RUN/run.json holds. Raises UserError when the folder is not a run."""
    path = Path(run) / "run.json"
    try:
        about = json.loads(path.read_text())
    except FileNotFoundError:
        raise UserError(
            f"{run} is not a run: it has no run.json; give the folder that `twoviews train` wrote"
        ) from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({one_line(error)})") from None
    if not (isinstance(about, dict) and all(isinstance(about.get(part), dict) for part in ("run", "data"))):
        raise UserError(f"{path} is not what `twoviews train` wrote: it lacks 'run' or 'data'")
    return about


def reading(about: Mapping[str, Any]) -> dict[str, Any]:
    """How a run's encoder wants photos read, from what its run.json says of the run: settings of `photos`."""
    data = about["data"]
    more = {"range16": tuple(data["range16"])} if "range16" in data else {}
    return {"channels": about["encoder"].get("channels"), "max_side": data.get("max_side"), **more}


def digest(module: nn.Module) -> str:
    """A short hash of a module's weights."""
    out = hashlib.blake2b(digest_size=8)
    for name, tensor in module.state_dict().items():
        out.update(name.encode() + tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return out.hexdigest()


def fill(module: nn.Module, tensors: dict[str, Tensor], where: str) -> None:
    """`load_state_dict`, strict, with an error that says what does not fit. A sharded module takes its parts."""
    try:
        own = module.state_dict()
        module.load_state_dict({k: fsdp.cut(v, own.get(k)) for k, v in tensors.items()})
    except RuntimeError as error:
        raise UserError(f"the weights in {where} do not fit {type(module).__name__}: {one_line(error)}") from None


@contextmanager
def writing(path: Path):
    """Turn a failed write into one line that says what to do."""
    try:
        yield
    except (OSError, SafetensorError, RuntimeError) as error:
        reason = one_line(error)
        if getattr(error, "errno", None) == errno.ENOSPC or "No space" in reason or "os error 28" in reason:
            raise UserError(
                f"the disk is full: {path} could not be written; make room and run the same command again"
            ) from None
        if isinstance(error, PermissionError):
            raise UserError(f"no permission to write {path}; choose another folder with --out") from None
        raise UserError(f"{path} could not be written ({reason}); what was saved before is intact") from None


def one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]


def tensors(module: nn.Module) -> dict[str, Tensor]:
    """A module's state as safetensors can hold it: whole, on the CPU, contiguous, nothing shared.

    What is so already is not copied: it holds what the module holds.
    """
    out: dict[str, Tensor] = {}
    taken = set[int]()
    for name, value in fsdp.whole(dict(module.state_dict())).items():
        value = value.detach().cpu().contiguous()
        memory = value.untyped_storage()
        if memory.data_ptr() in taken or memory.nbytes() != value.nbytes:
            value = value.clone()  # tied weights twice
        taken.add(value.untyped_storage().data_ptr())
        out[name] = value
    return out


def sync(file: Path) -> None:
    """Wait until a file is on the disk, and let others read it."""
    file.chmod(0o644)  # safetensors writes files that only their owner can read
    with file.open("rb") as f:
        os.fsync(f.fileno())
