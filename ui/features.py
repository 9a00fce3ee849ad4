"""The feature and demand tables, as `dna features` prints them."""

from __future__ import annotations

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from dna.features import DEMAND, FEATURES, Feature
from ui.glyphs import DIM, TITLE, Glyphs


def features_table(glyphs: Glyphs) -> RenderableType:
    """Return every feature and every magnitude of demand with unit and meaning."""
    features = _table("feature", "unit", "range", "meaning")
    for feature in FEATURES:
        features.add_row(feature.name, feature.unit, _range(feature), Text(glyphs.text(feature.meaning)))
    demand = _table("demand", "unit", "meaning")
    for row in DEMAND:
        demand.add_row(row.name, row.unit, Text(glyphs.text(row.meaning)))
    note = f"{len(FEATURES)} features say how; demand says how much. What cannot be measured is unknown (?), never 0."
    return Group(features, demand, Text(note, style=DIM))


def features_json() -> dict[str, object]:
    """Return the document of ``dna features --json``."""
    features = [
        {
            "name": f.name,
            "unit": f.unit,
            "meaning": f.meaning,
            "low": f.scale.low,
            "high": f.scale.high,
            "log": f.scale.log,
        }
        for f in FEATURES
    ]
    demand = [{"name": row.name, "unit": row.unit, "meaning": row.meaning} for row in DEMAND]
    return {"features": features, "demand": demand}


def _range(feature: Feature) -> str:
    return f"{feature.scale.low:g} to {feature.scale.high:g}{', log' if feature.scale.log else ''}"


def _table(*heads: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style=TITLE)
    for head in heads:
        table.add_column(head, overflow="fold", no_wrap=head in ("feature", "demand", "unit"))
    return table
