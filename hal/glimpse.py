"""A machine looked at once: for the length of one plan or observation nothing is read twice.

That keeps a plan consistent in itself, and planning for hundreds of targets from walking all of /proc for each.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from hal.host import Host

_READS = frozenset({"read_text", "list_dir", "exists", "read_link", "owner", "mode", "scheduling"})
_NET_READS = frozenset({"links", "link", "addresses", "channels", "rings", "coalescing", "features", "qdiscs"})


class _Once:
    """Answers some methods from memory after the first call with the same arguments, failures included."""

    def __init__(self, inner: Any, reads: frozenset[str]) -> None:
        self._inner = inner
        self._reads = reads
        self._answers: dict[tuple[Any, ...], Any] = {}

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._inner, name)
        if name in self._reads:
            method = self._remembering(name, method)
            self.__dict__[name] = method
        return method

    def _remembering(self, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        answers = self._answers

        def ask(*arguments: Any) -> Any:
            key = (name, *arguments)
            if key not in answers:
                answers[key] = _tried(method, arguments)
            answer = answers[key]
            if isinstance(answer, Exception):
                raise answer.with_traceback(None)
            return list(answer) if isinstance(answer, list) else answer

        return ask


class Glimpse(_Once):
    """A host that reads each file, directory and interface at most once; everything else goes to the machine."""

    def __init__(self, host: Host) -> None:
        super().__init__(host, _READS)
        self.derived: dict[str, Any] = {}
        """What was worked out from what was read; see ``once``."""

    def net(self) -> Any:
        """Return the network, each interface of which is read once."""
        return once(self, "net", lambda: _Once(self._inner.net(), _NET_READS))


def glimpse(host: Host) -> Host:
    """Return a host that looks at each thing once."""
    return host if isinstance(host, Glimpse) else cast(Host, Glimpse(host))


def once[T](host: object, name: str, work_out: Callable[[], T]) -> T:
    """Return what ``work_out`` returns, remembered for as long as a machine is looked at once."""
    if not isinstance(host, Glimpse):
        return work_out()
    if name not in host.derived:
        host.derived[name] = work_out()
    return cast(T, host.derived[name])


def _tried(method: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    try:
        return method(*arguments)
    except Exception as error:
        return error
