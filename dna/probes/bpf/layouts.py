"""Structures shared between the BPF programs and their readers; see the comments in ``*.c``."""

from __future__ import annotations

from dna.sample import BUCKETS
from hal.bpf.layout import Layout

MAX_CPUS = 1024
"""Size of the tables by CPU, a power of two."""
SYSCALL_NUMBERS = 512
EDGE_CHANNELS = 5
"""``dna.sample.CHANNELS`` and, last, wake-ups that came out of an interrupt and say nothing about who talks to whom."""

TABLES = Layout(
    "tables",
    {
        "class_of": ("u8", (SYSCALL_NUMBERS,)),
        "op_of": ("u8", (SYSCALL_NUMBERS,)),
        "llc_of": ("u16", (MAX_CPUS,)),
        "node_of": ("u16", (MAX_CPUS,)),
        "sample_every": ("u64", ()),
        "sees_switches": ("u64", ()),
    },
)

THREAD = Layout(
    "thread",
    {
        "on_ts": ("u64", ()),
        "off_ts": ("u64", ()),
        "ready_ts": ("u64", ()),
        "oncpu_ns": ("u64", ()),
        "ran_ns": ("u64", ()),
        "enter_ts": ("u64", ()),
        "fault_page": ("u64", ()),
        "position": ("u64", ()),
        "regs": ("u64", ()),
        "tid": ("u32", ()),
        "tgid": ("u32", ()),
        "nr": ("u32", ()),
        "cpu": ("u32", ()),
        "gap": ("u32", ()),
        "window": ("u32", ()),
        "windows": ("u32", ()),
        "seed": ("u32", ()),
        "fd": ("u32", ()),
        "blocked_class": ("u32", ()),
    },
)

FOLLOW = Layout(
    "follow_stats",
    {"forks": ("u64", ()), "exits": ("u64", ()), "unplaced": ("u64", ())},
)

SYSCALLS = Layout(
    "syscall_stats",
    {
        "calls": ("u64", (SYSCALL_NUMBERS,)),
        "errors": ("u64", ()),
        "sampled": ("u64", ()),
        "latency": ("u64", (8, BUCKETS)),
        "io_sampled": ("u64", (2, 4)),
        "io_calls": ("u64", (2, 4)),
        "io_bytes": ("u64", (2, 4)),
        "io_sizes": ("u64", (2, 4, BUCKETS)),
        "positioned": ("u64", ()),
        "sequential": ("u64", ()),
    },
)

SCHED = Layout(
    "sched_stats",
    {
        "oncpu_ns": ("u64", ()),
        "runq_ns": ("u64", ()),
        "voluntary": ("u64", ()),
        "involuntary": ("u64", ()),
        "migrations": ("u64", ()),
        "blocked_ns": ("u64", (8,)),
        "runq": ("u64", (BUCKETS,)),
        "slices": ("u64", (BUCKETS,)),
    },
)

WAKE = Layout("wake_stats", {"lost": ("u64", ()), "in_timer": ("u64", ())})

EDGE_KEY = Layout("edge_key", {"waker": ("u32", ()), "wakee": ("u32", ())})

EDGE = Layout(
    "edge",
    {
        "count": ("u64", ()),
        "cross_llc": ("u64", ()),
        "cross_node": ("u64", ()),
        "waker_tgid": ("u32", ()),
        "wakee_tgid": ("u32", ()),
        "inside": ("u32", ()),
        "channel": ("u32", (EDGE_CHANNELS,)),
        "waker_comm": ("u8", (16,)),
        "wakee_comm": ("u8", (16,)),
    },
)

FAULTS = Layout(
    "fault_stats",
    {"faults": ("u64", ()), "sequential": ("u64", ()), "near": ("u64", ()), "random": ("u64", ())},
)

NET = Layout(
    "net_stats",
    {"messages": ("u64", (2, 3)), "bytes": ("u64", (2, 3)), "sizes": ("u64", (2, BUCKETS))},
)

BLOCK = Layout("block_stats", {"requests": ("u64", ()), "bytes": ("u64", ()), "latency": ("u64", (BUCKETS,))})

ALL = (TABLES, THREAD, FOLLOW, SYSCALLS, SCHED, WAKE, EDGE_KEY, EDGE, FAULTS, NET, BLOCK)
