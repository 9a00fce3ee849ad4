"""The report's page in a real browser: nothing refused, nothing fetched, nothing cut off, in light and dark, wide and narrow, on paper."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sculpt.aftermath import Now
from sculpt.story import Story, read_story, tell
from tests.sculpt.telling import END, lines, step, story, trial
from tests.ui.chromium import PROGRAM, WHY_NOT, Chromium
from tests.ui.test_report import NOW, RECORDED, STANDING, hostile
from ui.report_page import page

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not PROGRAM, reason=WHY_NOT)]


def long_run() -> Story:
    steps = [
        step(number, reward=100.0 + number % 17, in_force=("baseline", "huge")[number // 3 % 2])
        for number in range(5_000)
    ]
    return tell(lines(*steps, END))


def wordy() -> Story:
    """Return a run whose names have no place to break at."""
    name = "x" * 300
    other = [
        dict(one, workload="y" * 200, alerts=["z" * 500]) for one in trial(0, name, blocks=30, outcome="undecided")
    ]
    return story(trial(0, name, blocks=1), other, END)


def cut_short() -> Story:
    """Return a run that was killed when a trial had just begun: its mark is at the edge."""
    begun = [
        step(40, state="trial", event="trial", candidate="huge"),
        step(41, in_force="huge", state="trial", arm="huge"),
    ]
    return story([step(number) for number in range(40)], begun)


PAGES: dict[str, tuple[Callable[[], Story], Now]] = {
    "recorded": (lambda: read_story(RECORDED), NOW),
    "hostile": (hostile, STANDING),
    "long": (long_run, NOW),
    "wordy": (wordy, STANDING),
    "cut short": (cut_short, Now(True)),
    "empty": (lambda: story(END), NOW),
    "one step": (lambda: story(step(0, reward=None)), NOW),
}


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    folder = tmp_path_factory.mktemp("chromium")
    with Chromium(folder) as one:
        yield one
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.parametrize("name", PAGES)
def test_it_is_whole_in_light_and_dark_wide_and_narrow_and_on_paper(
    browser: Chromium, tmp_path: Path, name: str
) -> None:
    make, now = PAGES[name]
    file = tmp_path / "report.html"
    file.write_text(page(make(), now), encoding="utf-8")
    grounds = set()
    for media, scheme, width in [("screen", s, w) for s in ("light", "dark") for w in (1280, 390)] + [
        ("print", "dark", 700)
    ]:
        browser.show(file, width=width, scheme=scheme, media=media)
        assert browser.complaints() == []
        assert browser.requests() == [file.as_uri()]
        assert browser.beyond() == []
        assert browser.pale() == {}
        grounds.add((media, browser.value("getComputedStyle(document.documentElement).backgroundColor")))
    assert len(grounds) == 3, "light, dark and paper look different"
    assert ("print", "rgb(255, 255, 255)") in grounds


def test_nothing_runs_even_where_scripts_are_allowed(browser: Chromium, tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    text = page(hostile(), STANDING)
    file.write_text(text, encoding="utf-8")
    browser.show(file, width=800, scheme="light", script=True)
    assert browser.complaints() == []
    assert browser.value("document.scripts.length") == 0
    # Should markup ever get through, the page's policy is what stops it: shown to be in effect.
    evil = "<script>document.title = 'mine'</script><img src=https://example.invalid/x><link rel=stylesheet href=https://example.invalid/y>"
    file.write_text(text.replace("<main>", f"<main>{evil}"), encoding="utf-8")
    browser.show(file, width=800, scheme="light", script=True)
    assert browser.value("document.title") != "mine"
    refused = " ".join(browser.complaints())
    assert refused.count("Content Security Policy") >= 3 or refused.count("ContentSecurityPolicy") >= 3, refused


def test_who_cannot_see_it_is_told_what_the_plots_show(browser: Chromium, tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    file.write_text(page(read_story(RECORDED), NOW), encoding="utf-8")
    browser.show(file, width=1280, scheme="light")
    nodes = browser.ask("Accessibility.getFullAXTree")["nodes"]
    roles = [
        (node["role"]["value"], node.get("name", {}).get("value", "")) for node in nodes if not node.get("ignored")
    ]
    pictures = [name for role, name in roles if role in ("image", "img")]
    assert len(pictures) == 6
    assert all(pictures)
    assert [name for role, name in roles if role == "heading"][:2] == ["20261122-100758-19599: rc", "rc"]
    assert sum(role == "columnheader" for role, _ in roles) > 5
    browser.show(file, width=390, scheme="light")
    nodes = browser.ask("Accessibility.getFullAXTree")["nodes"]
    narrow = [node["role"]["value"] for node in nodes if not node.get("ignored")]
    assert narrow.count("cell") == sum(role == "cell" for role, _ in roles), (
        "tables stay tables where they are shown as lists"
    )


def test_it_can_be_printed(browser: Chromium, tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    file.write_text(page(read_story(RECORDED), NOW), encoding="utf-8")
    browser.show(file, width=1280, scheme="dark")
    paper = browser.paper()
    assert paper.startswith(b"%PDF")
    assert len(paper) > 20_000


def test_the_measures_of_this_test_find_what_is_wrong(browser: Chromium, tmp_path: Path) -> None:
    file = tmp_path / "wrong.html"
    file.write_text(
        "<!doctype html><body><p style='width:900px;color:#999;background:#fff'>wide and pale</p>"
        "<svg class=plot width=100 height=20><text x=80 y=15>far too long</text></svg><script>console.log(1)</script>"
    )
    browser.show(file, width=390, scheme="light", script=True)
    found = " ".join(browser.beyond())
    assert "page:" in found
    assert "text far too long" in found
    assert browser.pale()
    assert browser.complaints()
