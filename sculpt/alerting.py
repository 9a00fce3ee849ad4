"""A run's watcher for alerts and metrics: each step in, alerts out to where they go, numbers to where they are asked for."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sculpt.alert_settings import AlertSettings, address_of, open_outlets
from sculpt.alerts import Alarms, Alert
from sculpt.outlets import DRAINED_S, Counts, Outlet, close_all
from sculpt.step import Record

if TYPE_CHECKING:
    from sculpt.exporter import Exporter, Metrics


@dataclass(slots=True)
class Alerting:
    """Takes in steps, as a watcher does. Nothing that happens behind it holds up or ends the run."""

    settings: AlertSettings
    alarms: Alarms
    """Those of the run, which have taken in each step before."""
    outlets: list[Outlet]
    metrics: Metrics | None = None
    exporter: Exporter | None = None
    _last_t: float = field(default_factory=time.time)

    @property
    def address(self) -> str:
        """Where metrics are answered; "" where they are not."""
        return self.exporter.url if self.exporter else ""

    def __call__(self, record: Record) -> None:
        """Take in a step."""
        alerts = self.alarms.take(record) if record.raised is None else record.raised
        self._last_t = record.t
        for alert in alerts:
            self._send(alert)
        if self.metrics is not None and self.exporter is not None:
            self.metrics.take(record, alerts)
            self.exporter.start()

    def close(self, drained_s: float = DRAINED_S) -> tuple[str, ...]:
        """Send what was held back and wait a while until all is delivered; return what was not, and why."""
        for alert in self.alarms.rest(self._last_t):
            self._send(alert)
        close_all(self.outlets, drained_s)
        if self.exporter is not None:
            self.exporter.close()
        return tuple(self._undelivered())

    def counts(self) -> Mapping[str, Counts]:
        """Return what became of the alerts, by where they went."""
        return {outlet.sink.name: outlet.counts for outlet in self.outlets}

    def _send(self, alert: Alert) -> None:
        if self.settings.takes(alert):
            for outlet in self.outlets:
                outlet.put(alert)

    def _undelivered(self) -> Iterator[str]:
        for name, counts in self.counts().items():
            if counts.failed:
                yield f"alerts: {name}: {counts.failed} not delivered, the last because {counts.trouble}"
            if counts.dropped:
                yield f"alerts: {name}: {counts.dropped} had to be left out: they came faster than it takes them"


def open_alerting(settings: AlertSettings, *, about: Mapping[str, str] | None = None) -> Alerting:
    """Open what the settings name; all of it or nothing. Threads begin with the first step.

    Args:
        about: of the run, for ``dna_sculpt_run_info``.

    Raises:
        AlertSettingsError: something is not there or not fit.
        SculptError: metrics cannot be answered where they should be.
    """
    with ExitStack() as undo:
        alerting = Alerting(settings, Alarms(settings.collapse), open_outlets(settings))
        undo.callback(close_all, alerting.outlets, 0.0)
        if settings.prometheus:
            from sculpt.exporter import Exporter, Metrics  # here: only those who are asked load a server

            alerting.metrics = Metrics(about or {}, alerting.counts)
            alerting.exporter = Exporter(alerting.metrics, *address_of(settings.prometheus))
        undo.pop_all()
        return alerting
