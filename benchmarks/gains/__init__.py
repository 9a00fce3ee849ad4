"""What ``benchmarks.bench_gains`` is made of: programs, ways to configure the machine for them, rounds, and the table."""
