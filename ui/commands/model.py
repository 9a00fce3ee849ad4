"""Making and judging models: train, evaluate."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ui import options

app = typer.Typer()


From = Annotated[
    list[Path] | None,
    typer.Option("--from", help="Exported profiles (.json, .json.gz) or a data set (.npz); else the history."),
]
StorePath = Annotated[Path | None, typer.Option("--store", help="The history to read.")]


@app.command("train")
def train_command(
    from_: From = None,
    store: StorePath = None,
    out: Annotated[Path, typer.Option(help="Folder for the model and its library.")] = Path("dna-model"),
    epochs: Annotated[int, typer.Option(min=1)] = 800,
    seed: Annotated[int, typer.Option(min=0)] = 0,
) -> None:
    """Train a model from named profiles: several runs each of PROGRAM/LOAD."""
    from rich.console import Console

    from dna import dataset, model_folder
    from dna.train import Settings, train
    from ui.training import progress

    data = dataset.gather(from_ or [], store)
    with progress(Console(stderr=True), "training", epochs) as advance:
        encoder = train(data, Settings(epochs=epochs, seed=seed), lambda _, loss: advance(f"loss {loss:.3f}"))
    model_folder.write(out, encoder, data)
    typer.echo(f"model {encoder.model_id} of {len(set(data.runs.tolist()))} runs in {out}; use it with DNA_MODEL={out}")


@app.command("evaluate")
def evaluate_command(
    from_: From = None,
    store: StorePath = None,
    model: Annotated[
        Path | None, typer.Option(help="A finished model to try on this data; else models are trained on parts of it.")
    ] = None,
    folds: Annotated[int, typer.Option(min=2)] = 3,
    epochs: Annotated[int, typer.Option(min=1)] = 800,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    as_json: options.Json = False,
) -> None:
    """Say how well vectors tell workloads apart, against k-NN on raw features and principal components."""
    from dataclasses import asdict
    from json import dumps

    from rich.console import Console

    from dna import dataset
    from dna.encoder import Encoder
    from dna.evaluate import evaluate, evaluate_model
    from ui.training import progress, report

    data = dataset.gather(from_ or [], store)
    if model:
        found = evaluate_model(data, Encoder.load(model))
    else:
        from dna.train import Settings, train

        settings = Settings(epochs=epochs, seed=seed)
        with progress(Console(stderr=True), "training", 2 * folds) as advance:
            found = evaluate(data, lambda part: train(part, settings), folds=folds, step=lambda: advance(""))
    if as_json:
        typer.echo(dumps(asdict(found)))
    else:
        Console().print(report(found))
