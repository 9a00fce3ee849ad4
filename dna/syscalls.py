"""System calls of this architecture: number, name and class."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from dna.sample import SYSCALL_CLASSES

NUMBERS = 512

# The number is all that is known at entry, so read and write count as "file" until sampling shows what they move data
# through (see dna/probes/syscalls.py). What is not named here is "other".
_CLASS_OF = {
    "file": """
        read write readv writev pread64 pwrite64 preadv pwritev preadv2 pwritev2 open openat openat2 close close_range creat
        stat fstat lstat newfstatat statx statfs fstatfs access faccessat faccessat2 lseek dup dup2 dup3 fcntl flock
        truncate ftruncate fallocate fadvise64 readahead getdents getdents64 getcwd chdir fchdir rename renameat renameat2
        mkdir mkdirat rmdir link linkat unlink unlinkat symlink symlinkat readlink readlinkat chmod fchmod fchmodat fchmodat2
        chown fchown lchown fchownat utime utimes utimensat futimesat mknod mknodat umask fsync fdatasync sync syncfs
        sync_file_range sendfile splice tee vmsplice copy_file_range io_setup io_destroy io_submit io_cancel io_getevents
        io_pgetevents io_uring_setup io_uring_enter io_uring_register pipe pipe2 inotify_init inotify_init1 inotify_add_watch
        inotify_rm_watch fanotify_init fanotify_mark name_to_handle_at open_by_handle_at memfd_create getxattr lgetxattr
        fgetxattr setxattr lsetxattr fsetxattr listxattr llistxattr flistxattr removexattr lremovexattr fremovexattr
        mount umount2 pivot_root chroot quotactl cachestat""",
    "network": """
        socket socketpair bind listen accept accept4 connect shutdown getsockname getpeername getsockopt setsockopt sendto
        recvfrom sendmsg recvmsg sendmmsg recvmmsg""",
    "poll": "poll ppoll select pselect6 epoll_create epoll_create1 epoll_ctl epoll_wait epoll_pwait epoll_pwait2",
    "memory": """
        mmap munmap mprotect mremap brk madvise process_madvise mincore mlock mlock2 munlock mlockall munlockall msync
        mbind set_mempolicy get_mempolicy set_mempolicy_home_node migrate_pages move_pages remap_file_pages userfaultfd
        process_vm_readv process_vm_writev shmget shmat shmdt shmctl pkey_mprotect pkey_alloc pkey_free mseal
        map_shadow_stack process_mrelease memfd_secret""",
    "sync": """
        futex futex_waitv futex_wake futex_wait futex_requeue set_robust_list get_robust_list semget semop semtimedop semctl
        eventfd eventfd2 membarrier rseq msgget msgsnd msgrcv msgctl mq_open mq_unlink mq_timedsend mq_timedreceive mq_notify
        mq_getsetattr""",
    "process": """
        clone clone3 fork vfork execve execveat exit exit_group wait4 waitid kill tkill tgkill pidfd_open pidfd_getfd
        pidfd_send_signal rt_sigaction rt_sigprocmask rt_sigreturn rt_sigsuspend rt_sigpending rt_sigtimedwait
        rt_sigqueueinfo rt_tgsigqueueinfo sigaltstack signalfd signalfd4 pause getpid gettid getppid getpgid getpgrp setpgid
        getsid setsid getuid geteuid getgid getegid setuid setgid setreuid setregid setresuid setresgid getresuid getresgid
        getgroups setgroups capget capset prctl arch_prctl set_tid_address setns unshare ptrace sched_yield
        sched_setaffinity sched_getaffinity sched_setscheduler sched_getscheduler sched_setparam sched_getparam sched_setattr
        sched_getattr sched_get_priority_max sched_get_priority_min sched_rr_get_interval getpriority setpriority ioprio_set
        ioprio_get getrlimit setrlimit prlimit64 getrusage times getcpu restart_syscall personality""",
    "time": """
        nanosleep clock_nanosleep clock_gettime clock_settime clock_getres clock_adjtime gettimeofday settimeofday time
        timer_create timer_settime timer_gettime timer_getoverrun timer_delete timerfd_create timerfd_settime timerfd_gettime
        alarm setitimer getitimer adjtimex""",
}

CLASS_BY_NAME: dict[str, str] = {name: group for group, names in _CLASS_OF.items() for name in names.split()}

READS = frozenset(["read", "readv", "pread64", "preadv", "preadv2", "recvfrom", "recvmsg"])
WRITES = frozenset(["write", "writev", "pwrite64", "pwritev", "pwritev2", "sendto", "sendmsg"])
POSITIONED = frozenset(["pread64", "pwrite64", "preadv", "pwritev", "preadv2", "pwritev2"])
SYNC_CALLS = frozenset(["fsync", "fdatasync", "sync", "syncfs", "sync_file_range", "msync"])
UNTYPED = frozenset(["read", "write", "readv", "writev"])
"""Calls that work on any kind of descriptor."""


@dataclass(frozen=True, slots=True)
class SyscallTable:
    """Names by number, and what the BPF programs need to know of each number; arrays of shape (NUMBERS,)."""

    names: tuple[str, ...]
    class_of: NDArray[np.uint8]
    op_of: NDArray[np.uint8]
    """Bits: 1 reads, 2 writes through the descriptor in the first argument, 4 at the position in the fourth."""


@cache
def table(machine: str = "") -> SyscallTable:
    """Return the table of an architecture (``platform.machine()``), this one's by default."""
    from system_calls import syscalls

    machine = machine or platform.machine()
    architecture = {"aarch64": "arm64", "ppc64le": "powerpc64"}.get(machine, machine)
    source = syscalls()
    names = [f"syscall_{number}" for number in range(NUMBERS)]
    for number, name in source.load_reverse_arch_table(architecture).items():
        if 0 <= int(number) < NUMBERS:
            names[int(number)] = name
    classes = [SYSCALL_CLASSES.index(CLASS_BY_NAME.get(name, "other")) for name in names]
    operations = [(name in READS) | (name in WRITES) << 1 | (name in POSITIONED) << 2 for name in names]
    return SyscallTable(tuple(names), np.array(classes, dtype=np.uint8), np.array(operations, dtype=np.uint8))
