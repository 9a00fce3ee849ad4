"""Programs that work by themselves: interpreters, compilers, compressors, file tools, stressors, small C programs."""

from __future__ import annotations

import subprocess

from benchmarks.commands import command_workload, shell_workload
from benchmarks.inputs import c_project
from benchmarks.running import Session, Workload, workload

type Process = subprocess.Popen[bytes]


def _sqlite(session: Session, schema: str, body: str, repeat: int, around: tuple[str, str] = ("", "")) -> Process:
    script = session.folder / "body.sql"
    script.write_text(around[0] + body * repeat + around[1])
    session.finish("sqlite3", "base.db", schema)
    return session.shell("while :; do sqlite3 base.db < body.sql > /dev/null; done")


_TABLE = "CREATE TABLE t (id INTEGER PRIMARY KEY, a TEXT, b INTEGER);"
_INSERT = "INSERT INTO t (a, b) VALUES (hex(randomblob(50)), abs(random()) % 1000);\n"
_FILL = f"{_TABLE} INSERT INTO t (a, b) WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 200000) SELECT hex(randomblob(20)), i % 1000 FROM n;"


@workload("sqlite", "insert-sync", "inserts, each its own transaction and synced", "sqlite3")
def sqlite_insert(session: Session) -> Process:
    return _sqlite(session, _TABLE, _INSERT, session.pick(2000, 1000, 3000))


@workload("sqlite", "insert-bulk", "inserts in transactions of many rows", "sqlite3", core=False)
def sqlite_bulk(session: Session) -> Process:
    return _sqlite(
        session, _TABLE, _INSERT, session.pick(20000, 40000, 30000), ("BEGIN;\n", "COMMIT; DELETE FROM t;\n")
    )


@workload("sqlite", "query", "aggregates and look-ups over 200,000 rows", "sqlite3")
def sqlite_query(session: Session) -> Process:
    return _sqlite(session, _FILL, "SELECT b, count(*), max(a) FROM t GROUP BY b;\n", session.pick(20, 30, 40))


def _compile(session: Session, jobs: int, options: str) -> Process:
    project = c_project(session.shared)
    return session.shell(
        f"while :; do make -s -f {project}/Makefile SRC={project} OPT='{options}' -j{jobs} all; rm -f *.o; done"
    )


@workload("gcc", "make-j2", "24 C files compiled with -O2, two at a time", "gcc", "make")
def gcc_parallel(session: Session) -> Process:
    return _compile(session, 2, "-O2")


@workload("gcc", "make-O0", "24 C files compiled without optimisation, one at a time", "gcc", "make")
def gcc_plain(session: Session) -> Process:
    return _compile(session, 1, "-O0")


_MATMUL = (
    "import numpy as np, sys; n = int(sys.argv[1]); a = np.random.rand(n, n); b = np.random.rand(n, n)\n"
    "while True: a @ b"
)
_ELEMENTWISE = (
    "import numpy as np, sys; a = np.random.rand(int(sys.argv[1]))\nwhile True: b = np.sqrt(a) * 2 + np.sin(a); b.sum()"
)
_LOOP = (
    "import sys\ndef f(n):\n    x = 0\n    for i in range(n):\n        x = (x * 31 + i) % 1000003\n    return x\n"
    "while True: f(int(sys.argv[1]))"
)
_OBJECTS = (
    "import sys, json\nn = int(sys.argv[1])\nwhile True:\n"
    "    d = {str(i): {'a': i, 'b': [i] * 5} for i in range(n)}\n    json.loads(json.dumps(d)); sorted(d, reverse=True)"
)


@workload("numpy", "matmul", "products of matrices through BLAS", "python3")
def numpy_matmul(session: Session) -> Process:
    threads = session.pick("1", "1", "1")
    return session.python(_MATMUL, session.pick("800", "1000", "1200"), environment={"OPENBLAS_NUM_THREADS": threads})


@workload("numpy", "elementwise", "square roots and sines over 16 to 64 MB", "python3")
def numpy_elementwise(session: Session) -> Process:
    return session.python(_ELEMENTWISE, session.pick("2000000", "4000000", "8000000"))


@workload("python", "loop", "integer arithmetic in the interpreter", "python3")
def python_loop(session: Session) -> Process:
    return session.python(_LOOP, session.pick("100000", "300000", "1000000"))


@workload("python", "objects", "dictionaries made, written as JSON, read and sorted", "python3")
def python_objects(session: Session) -> Process:
    return session.python(_OBJECTS, session.pick("10000", "20000", "30000"))


def _sysbench(load: str, about: str, *options: str, core: bool = True) -> Workload:
    command = ("sysbench", "--time=3600", "--threads=2", *options, "run")
    return command_workload("sysbench", load, about, command, core=core)


def _stress(load: str, about: str, *options: str, core: bool = True) -> Workload:
    command = ("stress-ng", "--quiet", "--temp-path", "/tmp", "--timeout", "3600", *options)
    return command_workload("stress-ng", load, about, command, core=core)


def _fio(load: str, about: str, *options: str, core: bool = True) -> Workload:
    common = ("--name=job", "--filename=data", "--size=256m", "--time_based", "--runtime=3600", "--ioengine=psync")
    return command_workload("fio", load, about, ("fio", *common, *options), core=core)


def _openssl(load: str, about: str, *options: str, core: bool = True) -> Workload:
    return command_workload("openssl", load, about, ("openssl", "speed", "-seconds", "3600", *options), core=core)


_STRESS = (
    _stress("matrix", "products of small matrices", "--matrix", "2", "--matrix-method", "prod"),
    _stress("stream", "the STREAM kernels", "--stream", "1", core=False),
    _stress("switch", "two processes passing a byte to and fro", "--switch", "1"),
    _stress("pipe", "blocks through a pipe", "--pipe", "1"),
    _stress("futex", "waits and wakes on a futex", "--futex", "1"),
    _stress("vm", "256 MB mapped, written and checked", "--vm", "1", "--vm-bytes", "256m"),
    _stress("fork", "children forked that end at once", "--fork", "1"),
    _stress("cache", "reads and writes that thrash the caches", "--cache", "1", core=False),
    _stress("sock", "messages through a socket of loopback", "--sock", "1", core=False),
    _stress("qsort", "sorting of integers", "--qsort", "1", core=False),
    _stress("mmap", "mapping and unmapping", "--mmap", "1", "--mmap-bytes", "64m", core=False),
    _stress("timer", "signals of a timer", "--timer", "1", "--timer-freq", "5000", core=False),
)

_TOOLS = (
    _sysbench("cpu", "prime numbers by trial division", "cpu"),
    _sysbench("memory", "sequential writes of 1 KiB blocks", "memory", "--memory-total-size=1000T"),
    _sysbench(
        *("memory-random", "random reads over 512 MB", "memory", "--memory-total-size=1000T"),
        *("--memory-block-size=512M", "--memory-access-mode=rnd", "--memory-oper=read"),
        core=False,
    ),
    _sysbench("mutex", "threads locking 4096 mutexes", "mutex", "--mutex-locks=100000000", core=False),
    _sysbench("threads", "threads that yield and lock", "threads", "--thread-locks=2", core=False),
    _fio("read-sequential", "reads of 128 KiB in order, from the page cache", "--rw=read", "--bs=128k"),
    _fio(
        "read-random-direct", "reads of 4 KiB at random, past the page cache", "--rw=randread", "--bs=4k", "--direct=1"
    ),
    _fio("write-fsync", "writes of 4 KiB, each synced", "--rw=write", "--bs=4k", "--fsync=1"),
    _fio("read-random", "reads of 4 KiB at random, from the page cache", "--rw=randread", "--bs=4k", core=False),
    _openssl("aes-gcm", "AES-256-GCM over blocks of 16 KiB", "-evp", "aes-256-gcm", "-bytes", "16384"),
    _openssl("rsa", "RSA-2048 signatures", "rsa2048"),
    _openssl("sha256", "SHA-256 over blocks of 8 KiB", "-evp", "sha256", "-bytes", "8192", core=False),
)

_FILES = (
    shell_workload("gzip", "compress", "gzip -6 of text", "gzip -c {text} > /dev/null"),
    shell_workload("gzip", "decompress", "gzip -d of text", "gzip -dc {packed} > /dev/null"),
    shell_workload("xz", "compress", "xz -3 of text", "xz -3 -T1 -c {text} > /dev/null"),
    shell_workload("zstd", "fast", "zstd -1 of text to a file", "zstd -q -1 -f {text} -o out.zst"),
    shell_workload("zstd", "high", "zstd -15 of text", "zstd -q -15 -T1 -c {text} > /dev/null", core=False),
    shell_workload("find", "walk", "a walk over /usr/share, with the size of each file", "find /usr/share -size +1000k > /dev/null"),
    shell_workload("grep", "tree", "a regular expression over 400 files", "grep -rE 'e[a-z]+th (an|or)$' {tree} > /dev/null"),
    shell_workload("tar", "create", "400 files into an archive", "tar cf out.tar -C {tree} . && rm out.tar"),
    shell_workload("sort", "text", "5 million words sorted in memory", "tr ' ' '\\n' < {text} | sort -S 300M > /dev/null", "sort"),
    shell_workload("sort", "external", "the same with 20 MB of memory, through files", "sort -S 20M -T . {text} > /dev/null"),
    shell_workload("pipeline", "text", "cat | tr | sha256sum", "cat {text} | tr a-z A-Z | sha256sum > /dev/null", "sha256sum"),
    shell_workload("dd", "copy", "a file of 128 MB written in blocks of 1 MB and synced", "dd if=/dev/zero of=out bs=1M count=128 conv=fsync 2> /dev/null"),
    shell_workload("dd", "small-blocks", "blocks of 512 bytes from one device to another", "dd if=/dev/zero of=/dev/null bs=512 count=20000000 2> /dev/null"),
    shell_workload("rsync", "copy", "400 files copied anew", "rsync -a --ignore-times --whole-file {tree}/ copy/ && rm -r copy"),
)  # fmt: skip

_MEMORY = (
    command_workload("pointer-chase", "1gib", "dependent accesses at random over 1 GiB", ("{chase}", "1024"), needs="gcc", ready="ready"),
    command_workload("pointer-chase", "64mib", "dependent accesses at random over 64 MiB", ("{chase}", "64"), needs="gcc", ready="ready"),
    command_workload("stream-copy", "copy", "memcpy over 256 MiB", ("{copy}", "256", "copy"), needs="gcc", ready="ready"),
    command_workload("stream-copy", "triad", "a = b + 3 c over 256 MiB each", ("{copy}", "256", "triad"), needs="gcc", ready="ready", core=False),
)  # fmt: skip

BATCH: tuple[Workload, ...] = (
    *(sqlite_insert, sqlite_bulk, sqlite_query),
    *(gcc_parallel, gcc_plain),
    *(numpy_matmul, numpy_elementwise, python_loop, python_objects),
    *_TOOLS,
    *_STRESS,
    *_FILES,
    *_MEMORY,
)
