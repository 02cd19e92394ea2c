"""Put several runs of `shiftseg paper ... --json` into one measurement file.

Of equal figures and seeds the last run counts, with the longest time of all: a later run finds its training finished.

python benchmarks/paper_merge.py RUN.json ... --out docs/measurements/paper_quick.json
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--out", required=True, type=Path)
    wishes = parser.parse_args()
    documents = [json.loads(path.read_text(encoding="utf-8")) for path in wishes.runs]
    if len({document["size"] for document in documents}) > 1:
        raise SystemExit("the runs are of different sizes; merge those of one size")
    found: dict[tuple[str, int], dict] = {}
    for row in (row for document in documents for row in document["findings"]):
        before = found.get((row["name"], row["seed"]), row)
        found[row["name"], row["seed"]] = {**row, "seconds": max(row["seconds"], before["seconds"])}
    newest = max(documents, key=lambda document: document["date"])
    merged = {**newest, "findings": [found[key] for key in sorted(found)]}
    wishes.out.write_text(json.dumps(merged, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
