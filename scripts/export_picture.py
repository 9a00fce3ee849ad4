"""Draw the live view of a stored profile as SVG, as for the README: ``dna export NAME --out p.json``, then this program.

The picture is a frame of the program's own view, and refers to nothing outside itself: no fonts from elsewhere.
"""

from __future__ import annotations

import argparse
import io
import sys
from pathlib import Path

# Run as a program, the folder of this file is on the path, not the checkout's.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from rich.console import Console
from rich.text import Text

from dna.encoder import default_folder
from dna.errors import DnaError
from dna.export import read_json
from dna.library import Library
from dna.vector import Interval, Match, Profile
from ui.frame import CLOCK_WIDTH, clock_text, frame
from ui.glyphs import UNICODE
from ui.view import View

SVG_FORMAT = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}">
<style>
.{unique_id}-matrix {{ font-family: "Fira Code", "DejaVu Sans Mono", Menlo, Consolas, monospace;
  font-size: {char_height}px; line-height: {line_height}px; font-variant-east-asian: full-width; white-space: pre; }}
.{unique_id}-title {{ font-family: sans-serif; font-size: 18px; font-weight: bold; }}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal"><rect x="0" y="0" width="{terminal_width}" height="{terminal_height}"/></clipPath>
{lines}
</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix" xml:space="preserve">
{matrix}
</g>
</g>
</svg>
"""
"""Rich's own template without the fonts that it would fetch from the network."""


def view_of(profile: Profile, library: Library | None) -> View:
    """Return the live view as it stood after the profile's last interval."""
    view = View(profile.machine, profile.target, profile.interval_s)
    for interval in profile.intervals:
        view = view.with_interval(interval, nearest=lambda found: _nearest(found, library))
    return view


def _nearest(interval: Interval, library: Library | None) -> list[Match]:
    if library is None or interval.dna is None or interval.dna.model != library.model:
        return []
    return library.nearest(interval.dna.vector, 3)


def picture(profile: Profile, *, width: int, height: int, library: Library | None = None) -> str:
    """Return the view of a profile as SVG text."""
    rows = frame(view_of(profile, library), width, height, UNICODE)
    elapsed = profile.intervals[-1].t - profile.started
    clock = clock_text(elapsed_s=elapsed, next_s=profile.interval_s, duration_s=None, paused=False)
    rows[0].pad_right(max(width - CLOCK_WIDTH - rows[0].cell_len, 0))
    rows[0].append(clock)
    console = Console(
        record=True, width=width, height=height, file=io.StringIO(), force_terminal=True, legacy_windows=False
    )
    for row in rows:
        console.print(row if row.plain else Text(" "), no_wrap=True, overflow="crop")
    return console.export_svg(title="dna profile", code_format=SVG_FORMAT, unique_id="dna")


def main() -> None:
    """Read the command line, write the picture."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("profile", type=Path, help="a profile's JSON, from dna profile --json or dna export")
    parser.add_argument("picture", type=Path, help="the SVG to write")
    parser.add_argument("--width", type=int, default=120)
    parser.add_argument("--height", type=int, default=36)
    options = parser.parse_args()
    try:
        profile = read_json(options.profile)
    except DnaError as error:
        sys.exit(f"{error}\n{error.remedy}")
    if not profile.intervals:
        sys.exit(f"{options.profile} has no intervals")
    try:
        library: Library | None = Library.load([default_folder() / "library.json"])
    except DnaError:
        library = None
    options.picture.write_text(
        picture(profile, width=options.width, height=options.height, library=library), encoding="utf-8"
    )


if __name__ == "__main__":
    main()
