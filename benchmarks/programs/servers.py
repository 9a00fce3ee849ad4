"""Servers under load from loopback; the server is profiled, the load generator is not."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from benchmarks.running import Session, Workload, free_port, workload

type Process = subprocess.Popen[bytes]
_CLIENTS = Path(__file__).parent / "memcached_client.py"
_NODE_SERVER = Path(__file__).parent / "server.js"


def _redis(session: Session, *load: str) -> Process:
    port = str(free_port())
    server = session.spawn(
        "redis-server",
        "--port",
        port,
        "--bind",
        "127.0.0.1",
        "--save",
        "",
        "--appendonly",
        "no",
        "--dir",
        session.folder,
    )
    session.wait_for_port(int(port))
    if "get" in load:
        session.finish("redis-benchmark", "-p", port, "-q", "-t", "set", "-n", "50000", "-r", "50000", "-P", "16")
    session.spawn("redis-benchmark", "-p", port, "-q", "-n", "1000000000", "-r", "50000", *load)
    return server


@workload("redis", "get", "GET of small values, one at a time from each client", "redis-server", "redis-benchmark")
def redis_get(session: Session) -> Process:
    return _redis(session, "-t", "get", "-c", session.pick("10", "30", "50"))


@workload("redis", "set-large", "SET of 64 KiB values", "redis-server", "redis-benchmark")
def redis_set_large(session: Session) -> Process:
    return _redis(session, "-t", "set", "-d", session.pick("65536", "49152", "65536"), "-r", "500", "-c", "10")


@workload("redis", "pipeline", "GET in pipelines of 16", "redis-server", "redis-benchmark")
def redis_pipeline(session: Session) -> Process:
    return _redis(session, "-t", "get", "-P", session.pick("16", "24", "12"), "-c", "20")


@workload("redis", "lists", "LRANGE of 300 elements", "redis-server", "redis-benchmark", core=False)
def redis_lists(session: Session) -> Process:
    return _redis(session, "-t", "lrange_300", "-c", session.pick("10", "20", "30"))


def _memcached(session: Session, kind: str) -> Process:
    port = str(free_port())
    user = ["-u", "root"] if os.geteuid() == 0 else []
    threads = session.pick("2", "4", "2")
    server = session.spawn("memcached", "-l", "127.0.0.1", "-p", port, "-m", "256", "-t", threads, *user)
    session.wait_for_port(int(port))
    session.python(_CLIENTS.read_text(), port, kind, session.pick("8", "12", "16"))
    return server


@workload("memcached", "get", "GET of 100-byte values from several connections", "memcached")
def memcached_get(session: Session) -> Process:
    return _memcached(session, "get")


@workload("memcached", "set-large", "SET of 32 KiB values from several connections", "memcached")
def memcached_set(session: Session) -> Process:
    return _memcached(session, "set")


def _nginx(session: Session, size: int, *wrk: str) -> Process:
    port = free_port()
    (session.folder / "page").write_bytes(b"x" * size)
    configuration = session.folder / "nginx.conf"
    configuration.write_text(
        f"{'user root;' if os.geteuid() == 0 else ''} daemon off; worker_processes 1; pid {session.folder}/pid;\n"
        f"error_log {session.folder}/error.log; events {{ worker_connections 512; }}\n"
        f"http {{ access_log off; sendfile on; default_type text/plain; client_body_temp_path {session.folder}/b;\n"
        f"proxy_temp_path {session.folder}/p; fastcgi_temp_path {session.folder}/f; uwsgi_temp_path {session.folder}/u;\n"
        f"scgi_temp_path {session.folder}/s; server {{ listen 127.0.0.1:{port}; root {session.folder}; }} }}\n"
    )
    server = session.spawn("nginx", "-p", session.folder, "-c", configuration, "-e", session.folder / "error.log")
    session.wait_for_port(port)
    session.spawn(
        "wrk", "-t", "1", "-c", session.pick("8", "16", "32"), "-d", "3600", *wrk, f"http://127.0.0.1:{port}/page"
    )
    return server


@workload("nginx", "small", "static file of 1 KiB over connections kept alive", "nginx", "wrk")
def nginx_small(session: Session) -> Process:
    return _nginx(session, 1024)


@workload("nginx", "large", "static file of 1 MiB by sendfile", "nginx", "wrk")
def nginx_large(session: Session) -> Process:
    return _nginx(session, 1 << 20)


@workload("nginx", "connections", "static file of 1 KiB, a new connection each time", "nginx", "wrk")
def nginx_connections(session: Session) -> Process:
    return _nginx(session, 1024, "-H", "Connection: close")


def _postgres(session: Session, *load: str, script: str = "") -> Process:
    user = "postgres" if os.geteuid() == 0 else None
    home, port = session.private_folder(user), str(free_port())
    data = home / "data"
    session.finish("initdb", "-D", data, "-A", "trust", "-N", "-U", "postgres", user=user)
    server = session.spawn(
        *("postgres", "-D", data, "-p", port, "-h", "127.0.0.1", "-k", home, "-c", "shared_buffers=128MB"),
        user=user,
    )
    session.wait_for_port(int(port))
    where = ("-h", "127.0.0.1", "-p", port, "-U", "postgres")
    session.finish("pgbench", *where, "-i", "-q", "-s", "5", "postgres")
    if script:
        (session.folder / "script.sql").write_text(script)
        load = (*load, "-f", str(session.folder / "script.sql"))
    session.spawn("pgbench", *where, "-T", "3600", "-c", session.pick("2", "4", "6"), *load, "postgres")
    return server


@workload("postgresql", "select", "pgbench, primary-key look-ups only", "initdb", "postgres", "pgbench")
def postgresql_select(session: Session) -> Process:
    return _postgres(session, "-S", "-M", "prepared")


@workload(
    "postgresql", "tpcb", "pgbench's transactions like TPC-B, each synced to the log", "initdb", "postgres", "pgbench"
)
def postgresql_tpcb(session: Session) -> Process:
    return _postgres(session, "-N")


@workload("postgresql", "scan", "aggregates over half a million rows", "initdb", "postgres", "pgbench")
def postgresql_scan(session: Session) -> Process:
    return _postgres(session, script="SELECT bid, avg(abalance), max(aid) FROM pgbench_accounts GROUP BY bid;\n")


@workload("node", "http", "an HTTP server that answers JSON", "node", "wrk")
def node_http(session: Session) -> Process:
    port = free_port()
    server = session.spawn("node", _NODE_SERVER, str(port))
    session.wait_for_port(port)
    session.spawn("wrk", "-t", "1", "-c", session.pick("8", "16", "32"), "-d", "3600", f"http://127.0.0.1:{port}/")
    return server


@workload("node", "compute", "JSON parsed and written in a loop", "node")
def node_compute(session: Session) -> Process:
    return session.spawn(
        *("node", "-e"),
        "const o = {list: Array.from({length: 5000}, (_, i) => ({id: i, name: 'n' + i}))};"
        "let n = 0; for (;;) { n += JSON.parse(JSON.stringify(o)).list.length; }",
    )


SERVERS: tuple[Workload, ...] = (
    *(redis_get, redis_set_large, redis_pipeline, redis_lists),
    *(memcached_get, memcached_set),
    *(nginx_small, nginx_large, nginx_connections),
    *(postgresql_select, postgresql_tpcb, postgresql_scan),
    *(node_http, node_compute),
)
