"""Inputs of the workloads, generated once from a seed: text, compressed text, a source tree, small C programs."""

from __future__ import annotations

import gzip
import os
import random
import subprocess
from collections.abc import Callable
from pathlib import Path

from benchmarks.running import Session, StartError, find_program

_SOURCES = Path(__file__).parent / "c"
_TEXT_BYTES = 48 << 20
_FILES = 400


def _once(path: Path, make: Callable[[Path], None]) -> Path:
    """Make ``path`` unless it is there; an interrupted attempt leaves nothing under its name."""
    if not path.exists():
        partial = path.with_name(f".{path.name}.{os.getpid()}")
        make(partial)
        partial.rename(path)
    return path


def text(shared: Path) -> Path:
    """Return a file of 48 MiB of lines of words, about as compressible as prose."""
    return _once(shared / "text", _make_text)


def _make_text(path: Path) -> None:
    draw = random.Random(1)
    words = ["".join(draw.choices("etaoinshrdlucmfwypvbgkjqxz", k=draw.randint(2, 10))) for _ in range(5000)]
    weights = [1 / (rank + 3) for rank in range(len(words))]
    block = "\n".join(" ".join(draw.choices(words, weights, k=10)) for _ in range(30_000)).encode()
    with path.open("wb") as file:
        while file.tell() < _TEXT_BYTES:
            turn = draw.randrange(len(block))
            file.write(block[turn:] + block[:turn])


def packed(shared: Path) -> Path:
    """Return the text compressed by gzip."""
    return _once(shared / "text.gz", lambda path: _pack(text(shared), path))


def _pack(source: Path, path: Path) -> None:
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(source.read_bytes())


def tree(shared: Path) -> Path:
    """Return a folder of 400 files of text in 20 folders, 60 KiB each."""
    return _once(shared / "tree", lambda path: _make_tree(text(shared), path))


def _make_tree(source: Path, path: Path) -> None:
    content = source.read_bytes()
    draw = random.Random(2)
    for number in range(_FILES):
        folder = path / f"d{number % 20}"
        folder.mkdir(parents=True, exist_ok=True)
        start = draw.randrange(len(content) - 120_000)
        (folder / f"f{number}.txt").write_bytes(content[start : start + draw.randint(1_000, 120_000)])


def c_project(shared: Path) -> Path:
    """Return a folder with 24 C files of generated functions and a Makefile that compiles them."""
    return _once(shared / "project", _make_project)


def _make_project(path: Path) -> None:
    path.mkdir(parents=True)
    draw = random.Random(3)
    for number in range(24):
        lines = ["#include <stdio.h>", "#include <stdlib.h>", "#include <string.h>", "#include <math.h>"]
        for function in range(120):
            a, b = draw.randint(1, 99), draw.randint(1, 99)
            lines.append(
                f"double f{number}_{function}(double x, int n, char *s) {{ double y = {a}; struct {{ int a[8]; double b; }} t = {{0}};\n"
                f" for (int i = 0; i < n; i++) {{ t.a[i & 7] += i * {b}; if (t.a[i & 7] % {a + 1} == 0) y += sin(x * i) / (i + {a}); "
                f"else {{ y -= (double)strlen(s) * {b}; t.b += y; }} }}\n return y + t.b + t.a[3]; }}"
            )
        (path / f"m{number}.c").write_text("\n".join(lines) + "\n")
    (path / "Makefile").write_text(
        "OBJ := $(patsubst $(SRC)/%.c,%.o,$(wildcard $(SRC)/*.c))\nOPT ?= -O2\n"
        "all: $(OBJ)\n%.o: $(SRC)/%.c\n\tgcc $(OPT) -c -o $@ $<\n"
    )


def c_program(shared: Path, name: str) -> Path:
    """Return ``benchmarks/c/<name>.c`` compiled."""
    return _once(shared / name, lambda path: _compile(_SOURCES / f"{name}.c", path))


def _compile(source: Path, path: Path) -> None:
    command = [find_program("gcc"), "-O2", "-march=native", "-o", str(path), str(source), "-lm"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise StartError(f"cannot compile {source.name}: {done.stderr[-500:]}")


_PLACES: dict[str, Callable[[Path], Path]] = {
    "{text}": text,
    "{packed}": packed,
    "{tree}": tree,
    "{project}": c_project,
    "{chase}": lambda shared: c_program(shared, "chase"),
    "{copy}": lambda shared: c_program(shared, "copy"),
}


def expand(script: str, session: Session) -> str:
    """Put the paths of inputs, made where they are not yet there, for ``{text}``, ``{tree}`` and so on."""
    for mark, make in _PLACES.items():
        if mark in script:
            script = script.replace(mark, str(make(session.shared)))
    return script
