"""Time to encode one vector: at most 100 µs. Run: ``python -m benchmarks.bench_encode``."""

from __future__ import annotations

import statistics
import sys
import timeit

from dna.encoder import Encoder
from dna.features import BY_NAME, FEATURE_NAMES

LIMIT_US = 100.0
_ROUNDS = 25
_CALLS = 200


def measure(encoder: Encoder) -> list[float]:
    """Return microseconds a call of ``Encoder.encode``, one for each round."""
    features = {name: BY_NAME[name].scale.decode(0.4) for name in FEATURE_NAMES}
    rounds = timeit.repeat(lambda: encoder.encode(features), number=_CALLS, repeat=_ROUNDS)
    return [seconds / _CALLS * 1e6 for seconds in rounds]


def main() -> int:
    """Print the figure; 1 when the limit is broken."""
    median = statistics.median(measure(Encoder.load()))
    print(f"encode: median {median:.0f} µs of {_ROUNDS} rounds, limit {LIMIT_US:.0f} µs")
    return int(median > LIMIT_US)


if __name__ == "__main__":
    sys.exit(main())
