"""What training and evaluation show: a progress bar, and the report as a table."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich import box
from rich.console import Console, Group, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from dna.evaluate import Report


@contextmanager
def progress(console: Console, what: str, total: int) -> Iterator[Callable[[str], None]]:
    """Show a bar while the block runs; the function given advances it by one and sets the note beside it."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=total, note="")
        yield lambda note: bar.update(task, advance=1, note=note)


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.1f} %"


def report(found: Report) -> RenderableType:
    """Return an evaluation as two tables: telling workloads apart, and with less measured."""
    head = Text(
        f"{found.intervals} intervals, {found.runs} runs, {found.programs} programs, {found.loads} loads; split by run\n"
        f"reconstruction error of unseen runs {found.reconstruction:.2f} standard deviations "
        f"(16 principal components: {found.pca_reconstruction:.2f})\n"
        f"false alarms: {_percent(found.novelty_false_alarms)} of the intervals of unseen runs of known workloads\n"
    )
    return Group(head, _accuracy(found), _masked(found))


def _accuracy(found: Report) -> Table:
    table = Table(box=box.SIMPLE_HEAD, title="Telling workloads apart (k-NN)", title_justify="left")
    table.add_column("method")
    for name in ("program", "program/load", "novelty AUC"):
        table.add_column(name, justify="right")
    for score in found.scores:
        auc = "–" if score.novelty_auc is None else f"{score.novelty_auc:.3f}"
        table.add_row(score.method, _percent(score.program_accuracy), _percent(score.load_accuracy), auc)
    return table


def _masked(found: Report) -> Table:
    table = Table(
        box=box.SIMPLE_HEAD,
        title="With less measured: program accuracy, and how far the vector moves against workloads' distance",
        title_justify="left",
    )
    table.add_column("missing")
    for score in found.scores:
        table.add_column(score.method, justify="right")
    for pattern in found.scores[0].masked_accuracy:
        cells = [f"{_percent(s.masked_accuracy[pattern])} ({s.masked_shift[pattern]:.2f})" for s in found.scores]
        table.add_row(pattern, *cells)
    return table
