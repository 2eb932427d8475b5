"""How long it takes to start: `import twoviews` and `twoviews --help` beside Python alone and `import torch`.

    python benchmarks/startup.py [--rounds 9]

Whole processes, in turn, medians; the first round warms the disk's cache and does not count.
"""

import argparse
import subprocess
import sys
import time
from statistics import median

COMMANDS = {
    "python -c pass": ["-c", "pass"],
    "import twoviews": ["-c", "import twoviews"],
    "twoviews --help": ["-m", "twoviews", "--help"],
    "twoviews train --help": ["-m", "twoviews", "train", "--help"],
    "import torch": ["-c", "import torch"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    args = parser.parse_args()
    spent: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(args.rounds + 1):
        for name, command in COMMANDS.items():
            begun = time.perf_counter()
            done = subprocess.run([sys.executable, *command], capture_output=True, check=False)
            spent[name].append(time.perf_counter() - begun if done.returncode == 0 else float("nan"))
    seconds = {name: median(times[1:]) for name, times in spent.items()}
    print("| | ms | of `import torch` |\n|---|---:|---:|")
    for name, taken in seconds.items():
        print(f"| `{name}` | {1000 * taken:,.0f} | {taken / seconds['import torch']:.2f} |")


if __name__ == "__main__":
    main()
