"""What the loop has learned: show, reset, export, import, replay."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ui import options
from ui.commands.tool import tool_line

if TYPE_CHECKING:
    from rl.learned import Learned, LearnedTrial

app = typer.Typer()
learn = typer.Typer(help="What `dna sculpt` has learned: look at it, remove it, hand it on.", no_args_is_help=True)
app.add_typer(learn, name="learn")

Workload = Annotated[
    str,
    typer.Option(
        "--workload", metavar="NAME", help="Only of workloads of this name; a pattern such as redis* will do."
    ),
]
Arm = Annotated[
    str, typer.Option("--arm", metavar="NAME", help="Only of this configuration; a pattern such as 'memory.*' will do.")
]


@learn.command("show")
def show_command(workload: Workload = "*", arm: Arm = "*", as_json: options.Json = False) -> None:
    """Show what was learned of each configuration, by kind of workload."""
    import time

    from dna.export import dumps
    from rl.lessons import lessons, select
    from ui.glyphs import glyphs_for
    from ui.learn import lessons_json, lessons_table, nothing_learned
    from ui.output import console

    learned, path = _all()
    found = lessons(select(learned, workload=workload, arm=arm))
    if as_json:
        typer.echo(dumps(lessons_json(found), indent=1))
    elif found:
        out = console()
        out.print(lessons_table(found, time.time(), glyphs_for(out)))
    else:
        typer.echo(nothing_learned(path, bool(learned)))


@learn.command("reset")
def reset_command(
    workload: Workload = "*",
    arm: Arm = "*",
    older_than: Annotated[
        str | None, typer.Option("--older-than", metavar="AGE", help="Only what was learned longer ago: 30d, 12h.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Remove what was learned, quarantine too, for good; a run that is on keeps what it knows until it ends."""
    import math
    import time

    from rl.lessons import lessons, select
    from rl.memory import Memory
    from ui.glyphs import glyphs_for
    from ui.learn import contents, lessons_table
    from ui.output import console

    before = math.inf if older_than is None else time.time() - _age(older_than)
    with Memory.open(create=False) as memory:
        chosen = select(memory.read(), workload=workload, arm=arm, before=before)
        if not chosen:
            typer.echo("Nothing of that was learned: nothing was removed.")
            return
        if not yes:
            out = console()
            out.print(lessons_table(lessons(chosen), time.time(), glyphs_for(out)))
            typer.confirm(f"Remove {contents(chosen)} for good?", abort=True)
        memory.remove(chosen)
    typer.echo(f"removed {contents(chosen)}")


@learn.command("export")
def export_command(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Where to; - is standard output.")],
    workload: Workload = "*",
    arm: Arm = "*",
) -> None:
    """Write what was learned to a file, for another machine of the kind."""
    import time
    from typing import IO

    from dna.export import dumps
    from dna.files import write_whole
    from rl.learned_file import learned_data
    from rl.lessons import select
    from ui.learn import contents

    learned = select(_all()[0], workload=workload, arm=arm)
    content = dumps(learned_data(learned, tool=tool_line(), written=time.time()), indent=1) + "\n"

    def write(stream: IO[bytes]) -> None:
        stream.write(content.encode())

    write_whole(file, write)
    typer.echo(f"wrote {contents(learned)}", err=str(file) == "-")


@learn.command("import")
def import_command(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="As `dna learn export` writes it.")],
) -> None:
    """Take in what another machine has learned: it counts as a hint, and nothing is kept or held back for it alone."""
    import time

    from rl.learned_file import read_learned
    from rl.memory import Memory

    learned = read_learned(file, now=time.time())
    count = len(learned.trials) + len(learned.proofs) + len(learned.sentences)
    with Memory.open() as memory:
        added = memory.add(learned)
    typer.echo(f"imported {added} of {count}; the rest was there already" if added < count else f"imported {added}")


@learn.command("replay")
def replay_command(
    run: Annotated[
        str,
        typer.Argument(
            metavar="[RUN]", help="Of which run the decisions are; its name's beginning will do. Else of all."
        ),
    ] = "",
    policy: Annotated[
        list[str] | None,
        typer.Option(
            "--policy", metavar="NAME", help="bound, greedy, epsilon or sampled; may be repeated. Else all four."
        ),
    ] = None,
    workload: Workload = "*",
    seeds: Annotated[
        int, typer.Option("--seeds", metavar="N", min=2, max=1000, help="How many orders, and worlds, it is told from.")
    ] = 20,
    as_json: options.Json = False,
) -> None:
    """Tell how another policy would have picked what to try, from what was recorded; nothing is run."""
    from dataclasses import asdict

    from dna.export import dumps
    from rl.bandit import WAYS
    from rl.lessons import select
    from rl.replay import as_it_was, by_matching, by_model, recorded
    from ui.glyphs import glyphs_for
    from ui.learn import replay_table
    from ui.output import console

    ways = [options.choice_of("--policy", way, WAYS) for way in policy or WAYS]
    learned = select(_all()[0], workload=workload, run=f"{run}*")
    choices = recorded(_of_one_kind(learned))
    was = as_it_was(choices)
    found = {way: (by_matching(choices, way, seeds=seeds), by_model(choices, way, seeds=seeds)) for way in ways}
    if as_json:
        told = {way: {"matching": asdict(one), "model": asdict(other)} for way, (one, other) in found.items()}
        typer.echo(dumps({"decisions": len(choices), "recorded": asdict(was), "policies": told}, indent=1))
        return
    out = console()
    out.print(replay_table(len(choices), was, found, glyphs_for(out)))


def _of_one_kind(learned: Learned) -> tuple[LearnedTrial, ...]:
    """Return the trials, where they can be compared: of one workload, DNA model and objective."""
    kinds = sorted({(one.origin.workload, one.origin.objective, one.origin.model) for one in learned.trials})
    if not kinds:
        raise options.OptionError(
            "nothing was recorded of that", remedy="See `dna learn show` and `dna sculpt report --list`."
        )
    if len(kinds) > 1:
        names = ", ".join(dict.fromkeys(f"{workload} by {objective}" for workload, objective, _ in kinds))
        raise options.OptionError(
            f"that is of {len(kinds)} kinds: {names}", remedy="Name one: a RUN, --workload NAME, or both."
        )
    return learned.trials


def _all() -> tuple[Learned, Path]:
    from rl.memory import Memory

    with Memory.open(create=False) as memory:
        return memory.read(), memory.path


def _age(text: str) -> float:
    from dna.references import seconds_of

    try:
        return seconds_of(text)
    except ValueError as error:
        raise options.OptionError(
            f"--older-than {text}: it is no age", remedy="Give one such as 30d or 12h."
        ) from error
