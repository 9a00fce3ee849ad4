"""A run's file: all that it can say is taken, all that it cannot is refused in one line that helps."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dna.target import Target
from sculpt.config import Config, config_of, own_limit_of, read_config
from sculpt.errors import ConfigError
from sculpt.step import ADVISE, APPLY
from sculpt.targets import KEEP, RESTORE

WHOLE = """
[run]
mode = "apply"
interval = 2
duration = 60
own_limit = "2 %"
seed = 7
rules = ["/etc/workload-dna/rules"]
packs = ["memory", "cpu"]

[[target]]
unit = "postgresql"
metrics = ["2*throughput=postgresql:", "energy=rapl:"]
on_exit = "keep"
wait = true

[[target]]
comm = "^redis-server$"
mode = "advise"
unverified = true

[[target]]
pid = 4242

[guard]
knobs = ["cpu.*"]
most_trials_an_hour = 6
[guard.limits."memory.swappiness"]
most = 60

[alerts]
log = "stderr"
"""


def test_all_that_it_says_is_taken() -> None:
    config = config_of(tomllib.loads(WHOLE))
    assert [one.target for one in config.targets] == [
        Target.unit("postgresql"),
        Target.comm("^redis-server$"),
        Target.pid(4242),
    ]
    first, second, third = config.targets
    assert (first.mode, first.on_exit, first.wait, first.unverified) == (APPLY, KEEP, True, False)
    assert [str(metric) for metric in first.metrics] == ["2*throughput=postgresql:", "energy=rapl:"]
    assert first.kinds == ("throughput", "energy")
    assert (second.mode, second.on_exit, second.wait, second.unverified) == (ADVISE, RESTORE, False, True)
    assert third.mode == APPLY
    assert (config.interval_s, config.duration_s, config.own_limit, config.seed) == (2.0, 60.0, 0.02, 7)
    assert config.rules == (Path("/etc/workload-dna/rules"),)
    assert config.packs == ("memory", "cpu")
    assert config.guard is not None
    assert config.guard.most_trials_an_hour == 6
    assert config.guard.limits["memory.swappiness"].most == 60
    assert config.alerts == {"log": "stderr"}


def test_little_is_enough() -> None:
    config = config_of({"target": [{"comm": "nginx"}]})
    assert config == Config(config.targets)
    assert config.targets[0].mode == "observe"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "there is no target"),
        ("target = 5", "target must be a list of tables"),
        ("[target]\ncomm = 'x'", "target must be a list of tables"),
        ("[runn]\n[[target]]\ncomm = 'x'", "there is no 'runn' (did you mean run?)"),
        ("[run]\nintervall = 5\n[[target]]\ncomm = 'x'", "[run]: there is no 'intervall' (did you mean interval?)"),
        ("[run]\ninterval = 0\n[[target]]\ncomm = 'x'", "interval must be a number from 0.2 to 3600"),
        ("[run]\ninterval = nan\n[[target]]\ncomm = 'x'", "interval must be a number"),
        ("[run]\nmode = 'aply'\n[[target]]\ncomm = 'x'", "there is no 'aply' (did you mean apply?)"),
        ("[run]\nown_limit = 1\n[[target]]\ncomm = 'x'", "own limit: 1 is no share of a core"),
        ("[run]\nown_limit = '0%'\n[[target]]\ncomm = 'x'", "no share of a core"),
        ("[run]\nseed = true\n[[target]]\ncomm = 'x'", "seed must be a whole number"),
        ("[run]\nrules = ['here']\n[[target]]\ncomm = 'x'", "no absolute path"),
        ("[[target]]\nmetrics = []", "[[target]] 1: it has no name"),
        ("[[target]]\ncomm = 'x'\npid = 5", "[[target]] 1: it has pid and comm"),
        ("[[target]]\ncomm = 'x'\n[[target]]\ncom = 'y'", "[[target]] 2: there is no 'com' (did you mean comm?)"),
        ("[[target]]\npid = '5'", "pid must be a whole number"),
        ("[[target]]\npid = -5", "pid must be a whole number"),
        ("[[target]]\ncomm = '('", "[[target]] 1:"),
        ("[[target]]\ncomm = ''", "comm must be a word"),
        ("[[target]]\npid = 5\nwait = true", "does not come again"),
        ("[[target]]\ncomm = 'x'\nwait = 'yes'", "wait must be true or false"),
        ("[[target]]\ncomm = 'x'\nmetrics = 'throughput=redis:'", "metrics must be a list of words"),
        ("[[target]]\ncomm = 'x'\nmetrics = ['speed=redis:']", "speed"),
        ("[[target]]\ncomm = 'x'\non_exit = 'leave'", "there is no 'leave'"),
        ("[guard]\nknob = ['x']\n[[target]]\ncomm = 'x'", "guard: there is no 'knob' (did you mean knobs?)"),
        ("[guard.limits]\n'a' = 5\n[[target]]\ncomm = 'x'", "limits: a must be a table"),
        ("[guard.limits.a]\nmaximum = 5\n[[target]]\ncomm = 'x'", "limits: a: there is no 'maximum'"),
        ("alerts = 5\n[[target]]\ncomm = 'x'", "alerts must be a table"),
        ("[[target]", "is no TOML"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line_with_the_file(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(ConfigError) as caught:
        read_config(path)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)
    assert caught.value.exit_code == 2


@given(st.floats(min_value=0.001, max_value=100))
def test_a_share_is_read_as_it_is_written(per_cent: float) -> None:
    assert own_limit_of(f"{per_cent}%") == pytest.approx(per_cent / 100)


@pytest.mark.parametrize("text", ["", "%", "1", "-1%", "nan%", "101%", "１%", "1%%"])
def test_what_is_no_share_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="no share of a core"):
        own_limit_of(text)
