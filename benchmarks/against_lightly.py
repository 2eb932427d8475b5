"""One epoch of SimCLR on CIFAR-10 photos, ours and lightly's parts, the same work in one run.

    pip install 'twoviews[benchmarks]'
    python benchmarks/against_lightly.py [--items 4000] [--batch 256] [--repeats 3]

Both: views of 32 pixels with SimCLR's augmentations without blur, the same encoder, a projection head 512-128, NT-Xent
at 0.5, SGD. lightly has no loop of its own: its transform, loss and head are put together as its example does
(examples/pytorch/simclr.py), read by a DataLoader with a worker per core. Ours is what `twoviews train` does: decoded
once into memory, views made in batches.
"""

import argparse
import io
import os
import statistics
import time
import zipfile

import torch
from lightly.loss import NTXentLoss
from lightly.models.modules import SimCLRProjectionHead
from lightly.transforms import SimCLRTransform
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset

from twoviews.data.image import photos
from twoviews.data.loader import Loader
from twoviews.data.views import two_crops
from twoviews.encoders import ENCODERS
from twoviews.methods import SimCLR
from twoviews.optim import sgd


class Jpegs(Dataset):
    """The same files for lightly: bytes in memory, decoded and transformed in workers."""

    def __init__(self, path: str, items: int):
        with zipfile.ZipFile(path) as archive:
            names = sorted(n for n in archive.namelist() if n.startswith("train/") and n.endswith(".jpg"))
            self.files = [archive.read(n) for n in names[:: len(names) // items][:items]]
        self.transform = SimCLRTransform(input_size=32, gaussian_blur=0.0)

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int):
        return self.transform(Image.open(io.BytesIO(self.files[index])).convert("RGB"))


class Theirs(nn.Module):
    def __init__(self, encoder):
        super().__init__()
        self.encoder = encoder
        self.head = SimCLRProjectionHead(encoder.dim, 512, 128)
        self.loss = NTXentLoss(temperature=0.5)

    def forward(self, x0, x1):
        return self.loss(self.head(self.encoder(x0)), self.head(self.encoder(x1)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="../shared/data/images/cifar10_jpeg.zip")
    parser.add_argument("--items", type=int, default=4096)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--encoder", default="small")
    args = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

    jpegs = Jpegs(args.data, args.items)
    theirs_data = DataLoader(
        jpegs, args.batch, shuffle=True, drop_last=True, num_workers=os.cpu_count() or 1, persistent_workers=True
    )
    theirs = Theirs(ENCODERS[args.encoder]()).to(device)
    source = photos(args.data, split="train")
    source = source.subset(range(0, len(source), len(source) // args.items)[: args.items])
    ours_data = Loader(source, two_crops(size=32, blur=0.0), args.batch, device=device)
    ours = SimCLR(ENCODERS[args.encoder](), hidden=512, temperature=0.5).to(device)

    def theirs_epoch(model):
        optimizer = torch.optim.SGD(theirs.parameters(), 0.06)
        for x0, x1 in theirs_data:
            if model:
                step(theirs(x0.to(device), x1.to(device)), optimizer)

    def ours_epoch(model):
        optimizer = sgd(ours, 0.06, momentum=0.0)
        for batch in ours_data.epoch(0):
            if model:
                step(ours(batch).loss, optimizer)

    def step(loss, optimizer):
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    print(
        f"photos a second, median of {args.repeats} ({args.encoder}, batch {args.batch}, {args.items} photos, {device})"
    )
    print("| | lightly | twoviews | ratio |\n|---|---:|---:|---:|")
    for name, model in (
        ("views alone (lightly decodes each time, we once)", False),
        ("a whole epoch of training", True),
    ):
        rates: dict = {theirs_epoch: [], ours_epoch: []}
        for _ in range(args.repeats + 1):  # in turn, so that a drift of the machine meets both; the first warms up
            for epoch in (theirs_epoch, ours_epoch):
                begun = time.perf_counter()
                epoch(model)
                if device.type == "cuda":
                    torch.cuda.synchronize()
                rates[epoch].append(args.items // args.batch * args.batch / (time.perf_counter() - begun))
        a, b = (statistics.median(r[1:]) for r in rates.values())
        print(f"| {name} | {a:,.0f} | {b:,.0f} | {b / a:.1f}x |")


if __name__ == "__main__":
    main()
