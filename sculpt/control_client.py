"""Finding the runs that go on, and asking them."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hal.errors import EXIT_NOT_PERMITTED
from sculpt.control_server import VERSION
from sculpt.errors import ControlError, NoRunError
from sculpt.sockets import folders, is_listened, is_socket, peer_of, pid_of, sockets

PATIENCE_S = 10.0
LISTING_S = 3.0
"""Each of several may take so long to answer."""
MOST_ANSWER = 16 << 20
"""Bytes of an answer beyond which it is none of ours."""


@dataclass(frozen=True, slots=True)
class Running:
    """A run that goes on."""

    place: Path
    status: Mapping[str, Any]
    """Of ``Control.status``; empty where it does not answer."""
    trouble: str = ""
    """Why it does not."""

    @property
    def pid(self) -> int | None:
        """Its process."""
        found = self.status.get("pid")
        return found if isinstance(found, int) else pid_of(self.place)

    @property
    def name(self) -> str:
        """How it is named: as its records are, else by its process."""
        return str(self.status.get("run") or self.pid or self.place)


class Asking:
    """A connection to a run.

    Raises:
        NoRunError: nobody listens there (any more).
        ControlError: it does not answer, not in time, or not as it should; or it is somebody else's.
    """

    def __init__(self, place: Path, *, patience_s: float = PATIENCE_S) -> None:
        self._place = place
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(patience_s)
        self._rest = b""
        try:
            with self._translated():
                self._connect(patience_s)
            self._check_owner()
        except BaseException:
            self._socket.close()
            raise

    def _connect(self, patience_s: float) -> None:
        until = time.monotonic() + patience_s
        while True:
            try:
                self._socket.connect(os.fspath(self._place))
            except BlockingIOError as error:  # too many wait already: a socket that may not block is not let wait too
                if time.monotonic() > until:
                    raise TimeoutError from error
                time.sleep(0.02)
            else:
                return

    def _check_owner(self) -> None:
        if (user := peer_of(self._socket)[1]) not in (os.geteuid(), 0) and os.geteuid() != 0:
            raise ControlError(
                f"{self._place} is of user {user}", remedy="Only a run of yours, or root's, is believed."
            )

    def __enter__(self) -> Asking:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def ask(self, do: str, **rest: object) -> Mapping[str, Any]:
        """Return the run's status after it did what it was asked."""
        request = {"version": VERSION, "do": do, **{name: value for name, value in rest.items() if value is not None}}
        with self._translated():
            self._socket.sendall(json.dumps(request).encode() + b"\n")
            return self._answer()

    def wait(self, patience_s: float) -> Mapping[str, Any]:
        """Return the status with which a run that was told to stop has ended; empty where it was gone without a word."""
        self._socket.settimeout(patience_s)
        with self._translated():
            try:
                return self._answer()
            except NoRunError:
                return {}

    def _answer(self) -> Mapping[str, Any]:
        until = time.monotonic() + (self._socket.gettimeout() or 0.0)  # for the whole of it, however it trickles
        while b"\n" not in self._rest:
            if time.monotonic() > until:
                raise TimeoutError
            chunk = self._socket.recv(65536)
            if not chunk:
                raise NoRunError(f"the run at {self._place} has ended")
            self._rest += chunk
            if len(self._rest) > MOST_ANSWER:
                raise ControlError(f"{self._place} is no run of dna sculpt: its answer has no end")
        line, _, self._rest = self._rest.partition(b"\n")
        return _status(line, self._place)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except TimeoutError as error:
            raise ControlError(
                f"the run at {self._place} does not answer", remedy="Is it stopped, or the machine very busy?"
            ) from error
        except (FileNotFoundError, ConnectionError) as error:
            raise NoRunError(f"no run listens at {self._place}") from error
        except PermissionError as error:
            denied = ControlError(f"{self._place}: not permitted", remedy="It is another user's: try with sudo.")
            denied.exit_code = EXIT_NOT_PERMITTED
            raise denied from error
        except OSError as error:
            raise ControlError(f"{self._place}: {error.strerror or error}") from error


def _status(line: bytes, place: Path) -> Mapping[str, Any]:
    strange = ControlError(f"{place} does not answer as a run of dna sculpt does", remedy="Is it another program's?")
    try:
        answer = json.loads(line)
    except ValueError as error:
        raise strange from error
    if not isinstance(answer, dict):
        raise strange
    if not answer.get("ok"):
        raise ControlError(str(answer.get("error") or strange))
    status = answer.get("status")
    if not isinstance(status, dict):
        raise strange
    return status


def running(places: Sequence[Path] | None = None) -> list[Running]:
    """Return the runs that go on, those that do not answer among them; what killed runs left is not there.

    Args:
        places: folders with sockets; those that this user may look into unless given.
    """
    found = []
    for place in sockets(tuple(places) if places is not None else folders()):
        try:
            with Asking(place, patience_s=LISTING_S) as asking:
                found.append(Running(place, asking.ask("status")))
        except NoRunError:
            continue
        except ControlError as error:
            found.append(Running(place, {}, str(error)))
    return found


def find(name: str = "") -> Running:
    """Return the one run that is meant: by its process id, its name's beginning, or its socket's path; the only one without.

    Raises:
        NoRunError: there is none.
        ControlError: several are; or the one meant does not answer.
    """
    if "/" in name:
        with Asking(Path(name)) as asking:
            return Running(Path(name), asking.ask("status"))
    found = running()
    fitting = [one for one in found if not name or str(one.pid) == name or one.name.startswith(name)]
    if not fitting:
        raise none(name, found)
    if len(fitting) > 1:
        names = ", ".join(f"{one.pid} ({one.name})" for one in fitting)
        several = ControlError(f"several runs go on: {names}", remedy=f"Name one: {fitting[0].pid}")
        several.exit_code = 2
        raise several
    return fitting[0]


def none(name: str = "", found: Sequence[Running] = ()) -> NoRunError:
    """Return the error that says that no run goes on, or none of this name."""
    if name:
        there = ", ".join(f"{one.pid} ({one.name})" for one in found)
        return NoRunError(f"no run {name} goes on", remedy=f"There is {there}." if found else "None does.")
    remedy = "Start one: dna sculpt --pid N." if os.geteuid() == 0 else "One of root's is seen with sudo."
    return NoRunError("no run of dna sculpt goes on", remedy=remedy)


def wait_for_end(asking: Asking, running: Running, patience_s: float) -> Mapping[str, Any]:
    """Return the status with which a run that was told to stop has ended; empty where that is not known.

    Raises:
        ControlError: it has not ended in time.
    """
    until = time.monotonic() + patience_s
    ended = asking.wait(patience_s)
    while is_socket(running.place) and is_listened(running.place) and time.monotonic() < until:
        time.sleep(0.05)  # it has said how it ended, and puts its things away
    return ended
