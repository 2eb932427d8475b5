"""Recipes on Beauty and ML-1M beside the floors, each training in a fresh process: measures, time, peak memory.

    python benchmarks/histories.py                                      # both sets, bert4rec, seeds 0 1 2
    python benchmarks/histories.py --data ml-1m --recipes bert4rec sasrec --seeds 0 --threads 2
    python benchmarks/histories.py --data beauty --recipes bert4rec_paper --seeds 0 epochs=1 data.split=leave-one-out

Protocol (Klenitskiy and Vasilev 2023): trained on all but each user's last two events, the last but one chooses the
checkpoint, the last is ranked among all items but those of the history; ties count against; all users. Data lies in
the folder `rec` of TWOVIEWS_DATA.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import mean

DATA = Path(os.environ.get("TWOVIEWS_DATA", Path(__file__).parents[2] / "shared" / "data")) / "rec"
FILES = {"beauty": "beauty_bert4rec.txt.gz", "ml-1m": "ml-1m_sas.txt.gz"}
MEASURES = ("Recall@10", "NDCG@10")


def trained(file: Path, recipe: str, seed: int, threads: int, settings: list[str], out: Path) -> dict:
    """The rows of one run's table, with its time in seconds and its peak memory in MiB."""
    command = [sys.executable, "-m", "twoviews", "train", str(file), "--recipe", recipe, "--out", str(out), "--quiet"]
    begun = time.monotonic()
    child = subprocess.Popen([*command, f"seed={seed}", *settings], env=os.environ | {"OMP_NUM_THREADS": str(threads)})
    _, status, used = os.wait4(child.pid, 0)
    if status:
        sys.exit(f"failed: {' '.join(command)}")
    rows = json.loads((out / "evaluation.json").read_text())["rows"]
    ours = next(name for name in rows if name not in ("popular", "markov", "untrained"))
    found = {name: [rows[name][m]["value"] for m in MEASURES] for name in ("popular", "markov")}
    cost = {
        "seconds": time.monotonic() - begun,
        "cpu": used.ru_utime + used.ru_stime,
        "peak": used.ru_maxrss / 1024,
    }
    return found | {"ours": [rows[ours][m]["value"] for m in MEASURES]} | cost


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", choices=FILES, default=list(FILES))
    parser.add_argument("--recipes", nargs="+", default=["bert4rec"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--keep", type=Path, help="Folder for the runs; one that was stopped there goes on.")
    args, settings = parser.parse_known_args()
    print("| data | recipe | Recall@10 by seed | NDCG@10 by seed | mean | CPU s | wall s | peak MiB |")
    print("|---|---|---|---|---|---:|---:|---:|")
    with tempfile.TemporaryDirectory() as scratch:
        place = args.keep or Path(scratch)
        for name in args.data:
            file = DATA / FILES[name]
            for recipe in args.recipes:
                runs = []
                for seed in args.seeds:
                    out = place / f"{name}-{recipe}-{seed}"
                    runs.append(trained(file, recipe, seed, args.threads, settings, out))
                recall, ndcg = zip(*(run["ours"] for run in runs), strict=True)
                if recipe == args.recipes[0]:
                    for floor in ("popular", "markov"):
                        r, n = runs[0][floor]
                        print(f"| {name} | {floor} | {r:.4f} | {n:.4f} | {r:.4f} / {n:.4f} | | | |")
                by_seed = [", ".join(f"{v:.4f}" for v in values) for values in (recall, ndcg)]
                cost = [mean(run[k] for run in runs) for k in ("cpu", "seconds", "peak")]
                shown = " | ".join(f"{c:,.0f}" for c in cost)
                print(
                    f"| {name} | {recipe} | {' | '.join(by_seed)} | {mean(recall):.4f} / {mean(ndcg):.4f} | {shown} |"
                )
    for name in args.data:
        digest = hashlib.sha256(gzip.decompress((DATA / FILES[name]).read_bytes())).hexdigest()
        print(f"\n{name}: sha256 {digest} (unpacked)")
    print(f"\n{args.threads} threads, settings {' '.join(settings) or 'as the recipes have them'}")


if __name__ == "__main__":
    main()
