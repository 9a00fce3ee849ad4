"""Keeps the members of a target up to date: by the kernel where BPF works, by looking again where it does not."""

from __future__ import annotations

import os
import struct
from contextlib import suppress

from dna.members import Members
from dna.probes.bpf.programs import Programs
from dna.probes.bpf.threads import threads_of
from dna.syscalls import SyscallTable
from dna.target import Target
from hal.errors import HalError
from hal.host import Host
from hal.topology import Topology

_FOLLOW = ("on_fork", "on_exec", "on_exit")
_SEED_AT_MOST = 4096
"""Threads whose blocked state is read at the start; what more there are counts from their first wake-up."""


class Follower:
    """Marks the target's threads for the BPF programs and keeps ``Members`` true to what the kernel followed."""

    def __init__(self, host: Host, target: Target, members: Members, programs: Programs | None) -> None:
        self._host = host
        self._members = members
        self._programs = programs
        # A process tree is closed under fork, so the kernel's view is all there is to know; other targets may gain
        # processes in other ways.
        self._tree = target.kind in ("pid", "command")
        self._process_of: dict[int, int] = {}

    def start(self) -> None:
        """Mark what is there. New threads may appear meanwhile, so look until nothing new does."""
        programs = self._programs
        if programs is None or self._members.kind == "host":
            return
        programs.attach(*_FOLLOW)
        marked: set[int] = set()
        fresh = self._members.tids()
        while fresh:
            programs.mark(fresh)
            marked |= fresh
            fresh = self._members.refresh()
        # Those that ended between the look and the mark: nobody would ever see them end.
        programs.unmark(marked - self._members.tids())
        self._process_of = _by_thread(self._members)

    def seed(self, table: SyscallTable) -> None:
        """Tell the programs which threads are blocked already, and in what, before they are attached."""
        if self._programs is None:
            return
        pairs = [(pid, tid) for pid, tids in self._members.threads().items() for tid in tids]
        for pid, tid in pairs[:_SEED_AT_MOST]:
            number = blocked_call(self._host, pid, tid)
            if number is not None:
                group = int(table.class_of[number]) if 0 <= number < len(table.class_of) else 7
                self._programs.seed_blocked(tid, pid, max(number, -1), group)

    def kick(self, topology: Topology) -> None:
        """Let a timer interrupt each CPU a few times, so that threads running since before the start are seen."""
        if self._programs is None:
            return
        descriptors = []
        try:
            for cpu in topology.cpus:
                with suppress(HalError):
                    descriptors.append(_open_timer(self._host, cpu.os_index))
            self._programs.kick(descriptors)
            self._host.sleep(0.025)
        finally:
            for descriptor in descriptors:
                os.close(descriptor)

    def update(self) -> None:
        """Bring the members up to date."""
        if self._programs is None or self._members.kind == "host":
            self._members.refresh()
            return
        if not self._tree:
            followed = set(self._programs.member_tids().tolist())
            self._programs.mark(self._members.refresh())
            self._programs.unmark(followed - self._members.tids())
            self._process_of.update(_by_thread(self._members))
        self._adopt(self._programs)

    def _adopt(self, programs: Programs) -> None:
        followed = programs.member_tids().tolist()
        seen = threads_of(programs)
        threads: dict[int, set[int]] = {}
        process_of: dict[int, int] = {}
        for tid in followed:
            pid = seen.get(tid) or self._process_of.get(tid) or _thread_group(self._host, tid)
            if pid:
                process_of[tid] = pid
                threads.setdefault(pid, set()).add(tid)
        self._process_of = process_of
        self._members.adopt({pid: frozenset(tids) for pid, tids in threads.items()})


def _by_thread(members: Members) -> dict[int, int]:
    return {tid: pid for pid, tids in members.threads().items() for tid in tids}


def _thread_group(host: Host, tid: int) -> int | None:
    try:
        for line in host.read_text(f"/proc/{tid}/status").splitlines():
            if line.startswith("Tgid:"):
                return int(line.split()[1])
    except (HalError, ValueError):
        return None
    return None


def blocked_call(host: Host, pid: int, tid: int) -> int | None:
    """Return the number of the system call a thread is blocked in, -1 if in none, None if it is not blocked."""
    base = f"/proc/{pid}/task/{tid}"
    try:
        state = host.read_text(f"{base}/stat").rpartition(")")[2].split()[0]
        if state not in "SDI":
            return None
        first = host.read_text(f"{base}/syscall").split()[0]
    except HalError:
        return None
    return int(first) if first.lstrip("-").isdigit() else None


def _open_timer(host: Host, cpu: int) -> int:
    """Open a 500 Hz software clock event on one CPU (``struct perf_event_attr``, first 64 bytes: version 0)."""
    software, cpu_clock, frequency = 1, 0, 1 << 10
    attribute = bytearray(struct.pack("<IIQQQQQIIQ", software, 64, cpu_clock, 500, 0, 0, frequency, 0, 0, 0))
    import ctypes

    buffer = (ctypes.c_char * len(attribute)).from_buffer(attribute)
    close_on_exec = 8
    return host.syscall("perf_event_open", ctypes.addressof(buffer), (1 << 64) - 1, cpu, (1 << 64) - 1, close_on_exec)
