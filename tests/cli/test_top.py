"""``dna top`` as a user types it."""

from __future__ import annotations

import json
import sys

import pytest

import cli
from dna.top import SORTS
from ui.options import TOP_SORTS


def _dna(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["dna", "top", *arguments])
    try:
        cli.main()
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else 0
    return 0


def test_the_named_sorts_are_those_there_are() -> None:
    assert tuple(SORTS) == TOP_SORTS


def test_once_is_one_plain_table(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert _dna(monkeypatch, "--once", "--interval", "0.2", "--limit", "3", "--sort", "memory") == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 5
    assert "processes by memory" in lines[0]
    assert lines[1].split()[:2] == ["PID", "CPU"]


def test_json_is_one_document_a_refresh(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert _dna(monkeypatch, "--json", "--count", "2", "--interval", "0.2", "--limit", "2", "--by", "cgroup") == 0
    documents = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(documents) == 2
    assert all(document["by"] == "cgroup" and 1 <= len(document["rows"]) <= 2 for document in documents)
    assert {"key", "name", "cpu", "resident", "runq_share"} <= documents[0]["rows"][0].keys()


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--sort", "nice"], "memory"),
        (["--by", "user"], "cgroup"),
        (["--interval", "0"], "0.2 and 3600"),
    ],
)
def test_usage_errors(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], word: str
) -> None:
    assert _dna(monkeypatch, *arguments) == 2
    err = capsys.readouterr().err
    assert err.startswith("dna: ")
    assert word in err
