"""Make the shipped model and its card: ``python -m benchmarks.model_card examples/training.npz examples/test.npz``.

Trains ``dna/models/model.safetensors`` and ``library.json`` as ``dna train`` does, evaluates by cross-validation as
``dna evaluate`` does, adds the random forest of ``benchmarks.forest``, tries the model on the second data set, which it never
saw, and writes ``dna/models/MODEL_CARD.md``.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from benchmarks import forest
from benchmarks.workloads import CATALOGUE
from dna import dataset, model_folder
from dna.dataset import Dataset
from dna.encoder import SHIPPED, Encoder
from dna.evaluate import Report, Score, Standardised, evaluate, neighbours
from dna.features import FEATURE_NAMES
from dna.masks import is_environment
from dna.train import Settings, train

_MASKS = {"no-bpf": "nothing that needs BPF (no root)", "no-instructions": "no sampled instructions", "no-syscalls": "no system calls", "no-memory": "no memory probe"}  # fmt: skip


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def accuracy_table(report: Report, trees: Mapping[str, float]) -> str:
    """Return the table of methods and what they tell apart."""
    lines = ["| method | program | program and load | novelty AUC |", "| --- | --- | --- | --- |"]
    for score in report.scores:
        auc = "" if score.novelty_auc is None else f"{score.novelty_auc:.3f}"
        lines.append(
            f"| k-NN, {score.method} | {_percent(score.program_accuracy)} | {_percent(score.load_accuracy)} | {auc} |"
        )
    lines.append(f"| random forest, raw features | {_percent(trees['program'])} | {_percent(trees['load'])} | |")
    return "\n".join(lines)


def mask_table(report: Report, trees: Mapping[str, float]) -> str:
    """Return the table of accuracy, and of shift, where less is measured."""
    scores = {score.method: score for score in report.scores}
    lines = ["| missing | DNA | moves by | raw features | moves by | 16 principal components | forest |"]
    lines.append("| --- | --- | --- | --- | --- | --- | --- |")
    for pattern, words in _MASKS.items():
        cells = [_cell(scores[name], pattern) for name in ("dna", "raw features", "pca-16")]
        tree = trees.get(f"program, {pattern}")
        last = "" if tree is None else _percent(tree)
        lines.append(
            f"| {words} | {cells[0][0]} | {cells[0][1]} | {cells[1][0]} | {cells[1][1]} | {cells[2][0]} | {last} |"
        )
    return "\n".join(lines)


def _cell(score: Score, pattern: str) -> tuple[str, str]:
    return _percent(score.masked_accuracy[pattern]), f"{score.masked_shift[pattern]:.2f}"


def workload_list(data: Dataset) -> str:
    """Return the recorded programs, each with its loads."""
    about = {workload.label: workload.about for workload in CATALOGUE}
    lines = []
    for label in sorted(set(data.workloads.tolist())):
        runs = len(set(data.runs[data.workloads == label].tolist()))
        lines.append(f"| `{label}` | {about.get(label, '')} | {runs} |")
    return "\n".join(["| label | what it does | runs |", "| --- | --- | --- |", *lines])


def unseen(training: Dataset, test: Dataset, encoder: Encoder) -> str:
    """Return in words how the finished model does on recordings of another time."""
    library = encoder.encode_many(*training.encoded()).vectors
    encoded = encoder.encode_many(*test.encoded())
    programs = float((neighbours(encoded.vectors, library, training.programs) == test.programs).mean())
    loads = float((neighbours(encoded.vectors, library, training.workloads) == test.workloads).mean())
    alarms = float((encoder.novelty(encoded) > 1).mean())
    plain = Standardised.fit(*training.encoded(), used=~is_environment(FEATURE_NAMES))
    found = neighbours(plain(*test.encoded()), plain(*training.encoded()), training.programs)
    return (
        f"programs {_percent(programs)} (raw features {_percent(float((found == test.programs).mean()))}), program and "
        f"load {_percent(loads)}, novelty above 1 in {_percent(alarms)} of {len(test)} intervals"
    )


def card(
    data: Dataset,
    encoder: Encoder,
    report: Report,
    trees: Mapping[str, float],
    about: Mapping[str, object],
    test: Dataset,
) -> str:
    """Return the text of the card."""
    own, baseline = report.scores[0], report.scores[1]
    learned = int(encoder.learned.sum())
    left_out = [name for name, used in zip(encoder.feature_names, encoder.learned, strict=True) if not used]
    template = Path(__file__).with_name("model_card.md").read_text()
    return template.format(
        model=encoder.model_id,
        intervals=report.intervals,
        runs=report.runs,
        programs=report.programs,
        loads=report.loads,
        recorded=about["recorded"],
        interval_s=about["interval_s"],
        machine=_machine(about["machine"]),
        learned=learned,
        left_out=", ".join(f"`{name}`" for name in left_out),
        reconstruction=f"{report.reconstruction:.2f}",
        pca=f"{report.pca_reconstruction:.2f}",
        alarms=_percent(report.novelty_false_alarms or 0.0),
        accuracy=accuracy_table(report, trees),
        masks=mask_table(report, trees),
        verdict=verdict(own, baseline, trees),
        unseen=unseen(data, test, encoder),
        workloads=workload_list(data),
    )


def verdict(own: Score, baseline: Score, trees: Mapping[str, float]) -> str:
    """Return in words where the plain methods win."""
    sentences = []
    rivals = {"k-NN on raw features": baseline.program_accuracy, "the random forest": trees["program"]}
    if ahead := [name for name, accuracy in rivals.items() if accuracy > own.program_accuracy]:
        sentences.append(f"With everything measured, programs are told apart better by {' and '.join(ahead)}.")
    if (baseline.novelty_auc or 0) > (own.novelty_auc or 0):
        sentences.append("The distance to the nearest interval in raw features is the better sign of novelty.")
    for pattern, words in _MASKS.items():
        if trees.get(f"program, {pattern}", 0.0) > own.masked_accuracy[pattern]:
            sentences.append(f"With {words}, the forest is ahead.")
    return " ".join(sentences) or "No plain method is ahead of it in any of these."


def _machine(machine: object) -> str:
    assert isinstance(machine, Mapping)
    return "{arch}, {cpus} CPUs ({model}), NUMA nodes: {numa_nodes}, Linux {kernel}, a virtual machine".format(
        **machine
    )


def main() -> int:
    """Train, evaluate, write."""
    path, other = map(Path, sys.argv[1:])
    data, test = dataset.load([path]), dataset.load([other])
    with np.load(path) as archive:
        about = json.loads(str(archive["about"]))
    encoder = train(data)
    model_folder.write(SHIPPED, encoder, data)
    report = evaluate(data, lambda part: train(part, Settings()), step=lambda: print(".", end="", flush=True))
    trees = forest.accuracies(data)
    (SHIPPED / "MODEL_CARD.md").write_text(card(data, encoder, report, trees, about, test))
    print(f"\nmodel {encoder.model_id} in {SHIPPED}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
