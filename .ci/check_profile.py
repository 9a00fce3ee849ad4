"""Check that a profile written with --json says something: intervals, known features, a vector in each."""

from __future__ import annotations

import json
import sys
from pathlib import Path

LEAST_KNOWN = 10
"""Features that even a machine without BPF and counters can measure of a busy process."""

DIMENSIONS = 16


def main() -> int:
    profile = json.loads(Path(sys.argv[1]).read_text())
    intervals = profile["intervals"]
    known = [name for name, value in intervals[-1]["features"].items() if value is not None] if intervals else []
    vectors = [interval["dna"]["vector"] for interval in intervals if interval.get("dna")]
    print(
        f"schema {profile['schema']}: {len(intervals)} intervals, {len(known)} features known, {len(vectors)} vectors"
    )
    complete = len(intervals) >= 2 and len(known) >= LEAST_KNOWN and len(vectors) == len(intervals)
    if complete and all(len(vector) == DIMENSIONS for vector in vectors):
        return 0
    print(
        f"expected at least 2 intervals, {LEAST_KNOWN} known features, and a vector of {DIMENSIONS} for each interval"
    )
    return 1


if __name__ == "__main__":
    sys.exit(main())
