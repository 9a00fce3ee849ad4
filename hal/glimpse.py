"""A machine looked at once: for the length of one plan every file and directory is read at most once.

That keeps a plan consistent in itself, and planning for hundreds of targets from walking all of /proc for each.
"""

from __future__ import annotations

from typing import Any, cast

from hal.host import Host, Scheduling


class Glimpse:
    """Answers reads of text and directories from memory after the first; everything else goes to the machine."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._texts: dict[str, str | Exception] = {}
        self._names: dict[str, list[str] | Exception] = {}
        self._schedulings: dict[int, Scheduling] = {}
        self.children: dict[int, list[int]] | None = None
        """Processes by their parent, once somebody has worked it out."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._host, name)

    def read_text(self, path: str) -> str:
        """Return the content of a file at the first look."""
        if path not in self._texts:
            self._texts[path] = _tried(self._host.read_text, path)
        return cast(str, _raised(self._texts[path]))

    def scheduling(self, tid: int) -> Scheduling:
        """Return how the scheduler treats a thread, at the first look: policy and nice value are two knobs."""
        if tid not in self._schedulings:
            self._schedulings[tid] = self._host.scheduling(tid)
        return self._schedulings[tid]

    def list_dir(self, path: str) -> list[str]:
        """Return the names in a directory at the first look."""
        if path not in self._names:
            self._names[path] = _tried(self._host.list_dir, path)
        return list(cast(list[str], _raised(self._names[path])))


def glimpse(host: Host) -> Host:
    """Return a host that looks at each file once."""
    return host if isinstance(host, Glimpse) else cast(Host, Glimpse(host))


def _tried(read: Any, path: str) -> Any:
    try:
        return read(path)
    except Exception as error:
        return error


def _raised(answer: Any) -> Any:
    if isinstance(answer, Exception):
        raise answer.with_traceback(None)
    return answer
