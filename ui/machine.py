"""The view of ``dna machine``: a block for each NUMA node with what is near to it, then the distances between them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.text import Text

from hal.machine import Machine
from hal.topology import UNKNOWN_NODE, Cpu, NumaNode
from ui.cpu_words import cache_lines, count, cpu_lines, ranges
from ui.device_words import device_lines, has_any
from ui.glyphs import ACCENT, DIM, STRONG, TITLE, Glyphs, bar, glyphs_for
from ui.units import percent, plain, size

_BAR_WIDTH = 12
_LABEL_WIDTH = 5
_INDENT = 2


class MachineView:
    """Renders a machine at any width, with or without colour, in UTF-8 or ASCII."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        machine, glyphs = self._machine, glyphs_for(console)
        for index, line in enumerate(head_lines(machine)):
            yield _text(glyphs, line, DIM if index else STRONG)
        if states := list(state_lines(machine)):
            yield _rows(glyphs, states, label_width=max(len(label) for label, _ in states), style=ACCENT)
        for node in machine.topology.nodes:
            yield Text()
            yield _node_title(machine, node, glyphs)
            yield _rows(glyphs, [("RAM", memory_words(machine, node, glyphs)), *node_lines(machine, node)])
        yield from self._homeless(glyphs)
        yield from _distances(machine, glyphs, options.max_width)

    def _homeless(self, glyphs: Glyphs) -> Iterator[RenderableType]:
        cpus = [cpu for cpu in self._machine.topology.cpus if cpu.node == UNKNOWN_NODE]
        if cpus or has_any(self._machine.devices, UNKNOWN_NODE):
            yield Text()
            yield _text(glyphs, "On no node in particular", TITLE)
            yield _rows(glyphs, [*_cpu_rows(self._machine, cpus), *device_lines(self._machine.devices, UNKNOWN_NODE)])


def head_lines(machine: Machine) -> list[str]:
    """Return model and kernel in a line where they are known, and the counts with where all this was read."""
    shape = machine.topology
    system = f"Linux {machine.kernel} {machine.architecture}".strip() if machine.kernel else ""
    counts = [
        count(shape.packages, "package"),
        count(shape.core_count, "core"),
        count(shape.cpu_count, "CPU"),
        count(shape.node_count, "NUMA node"),
        size(shape.memory_bytes) if shape.memory_bytes else "",
        f"by {shape.source}",
    ]
    lines = (" · ".join(part for part in parts if part) for parts in ((machine.model, system), counts))
    return [line for line in lines if line]


def state_lines(machine: Machine) -> Iterator[tuple[str, str]]:
    """Yield what is out of the ordinary with CPUs and memory of the whole machine."""
    shape = machine.topology
    if shape.offline:
        # A description does not say why it leaves a CPU out.
        yield "offline" if machine.memory else "left out", ranges(shape.offline)
    if machine.cpus.isolated:
        yield "isolated", ranges(machine.cpus.isolated)
    if machine.cpus.nohz_full:
        yield "nohz_full", ranges(machine.cpus.nohz_full)
    allowed = [cpu.os_index for cpu in shape.cpus if cpu.allowed]
    nodes = [node.os_index for node in shape.nodes if node.allowed]
    if len(allowed) < shape.cpu_count or len(nodes) < shape.node_count:
        yield (
            "allowed",
            f"CPUs {ranges(allowed) or 'none'} · memory of {_nodes(nodes)} (cpuset)",
        )


def _nodes(numbers: Sequence[int]) -> str:
    return f"node{'s' if len(numbers) > 1 else ''} {ranges(numbers)}" if numbers else "no node"


def node_lines(machine: Machine, node: NumaNode) -> list[tuple[str, str]]:
    """Return label and words of a node's CPUs, caches and devices."""
    shape = machine.topology
    cpus = [cpu for cpu in shape.cpus if cpu.node == node.os_index]
    rows = list(_cpu_rows(machine, cpus))
    if not cpus:
        rows.append(("CPUs", f"none; nearest are {ranges(node.cpus)}" if node.cpus else "none"))
    return [*rows, *device_lines(machine.devices, node.os_index)]


def _cpu_rows(machine: Machine, cpus: Sequence[Cpu]) -> Iterator[tuple[str, str]]:
    yield from (("CPUs", line) for line in cpu_lines(cpus, machine.topology.cpu_kinds))
    yield from cache_lines(machine.topology, cpus)


def _node_title(machine: Machine, node: NumaNode, glyphs: Glyphs) -> Text:
    packages = sorted({cpu.package for cpu in machine.topology.cpus if cpu.node == node.os_index})
    where = f" · package{'s' if len(packages) > 1 else ''} {ranges(packages)}" if packages else ""
    title = _text(glyphs, f"Node {node.os_index}", TITLE).append_text(_text(glyphs, where))
    return title if node.allowed else title.append_text(_text(glyphs, " · memory not allowed here", ACCENT))


def memory_words(machine: Machine, node: NumaNode, glyphs: Glyphs) -> str:
    """Return a node's memory: kind, size, and where it is known what is free, given up when needed, and used."""
    total = " ".join(
        part for part in (size(node.memory_bytes) if node.memory_bytes else "size unknown", node.kind) if part
    )
    now = machine.memory_of(node.os_index)
    if now is None or not node.memory_bytes:
        return total
    used = max(0, node.memory_bytes - now.free_bytes - now.cached_bytes) / node.memory_bytes
    drawn = bar(used, _BAR_WIDTH, glyphs).replace(" ", glyphs.dot)
    return f"{total} · {size(now.free_bytes)} free · {size(now.cached_bytes)} cached · {drawn} {percent(used)} used"


def _distances(machine: Machine, glyphs: Glyphs, width: int) -> Iterator[RenderableType]:
    shape = machine.topology
    if shape.node_count < 2:
        return
    yield Text()
    if not shape.distances:
        yield _text(glyphs, "Distances between the nodes are not known", DIM)
        return
    yield _text(glyphs, "Distances (10 is local)", TITLE)
    names = [str(node.os_index) for node in shape.nodes]
    cells = [[f"{value:g}" for value in row] for row in shape.distances]
    cell = 2 + max(len(text) for text in [*names, *(text for row in cells for text in row)])
    step = max(1, (width - cell) // cell)
    for start in range(0, len(names), step):
        yield _matrix(names, names[start : start + step], [row[start : start + step] for row in cells], cell)


def _matrix(rows: Sequence[str], columns: Sequence[str], cells: Sequence[Sequence[str]], cell: int) -> Text:
    """Return a part of the matrix as aligned text; a row of a table for each of 64 nodes would be slow to lay out."""
    text = Text(no_wrap=True, overflow="crop")
    text.append(" " * cell + "".join(name.rjust(cell) for name in columns), DIM)
    for name, row in zip(rows, cells, strict=True):
        text.append("\n" + name.rjust(cell), DIM)
        text.append("".join(value.rjust(cell) for value in row))
    return text


def _rows(
    glyphs: Glyphs, lines: Iterable[tuple[str, str]], *, label_width: int = _LABEL_WIDTH, style: str = DIM
) -> RenderableType:
    return _Rows(glyphs, list(lines), label_width, style)


@dataclass(frozen=True, slots=True)
class _Rows:
    """Words beside their labels, further lines of them below the first; unlike a table without blanks up to the edge."""

    glyphs: Glyphs
    lines: Sequence[tuple[str, str]]
    label_width: int
    style: str

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        indent = _INDENT + self.label_width + 1
        before = ""
        for label, words in self.lines:
            wrapped = _text(self.glyphs, words).wrap(console, max(1, options.max_width - indent), overflow="fold")
            for index, line in enumerate(wrapped):
                shown = label if not index and label != before else ""
                line.rstrip()
                yield Text(" " * _INDENT).append(shown.ljust(self.label_width + 1), self.style).append_text(line)
            before = label


def _text(glyphs: Glyphs, value: str, style: str = "") -> Text:
    return Text(glyphs.text(plain(value)), style=style)
