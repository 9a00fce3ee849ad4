"""eBPF: bcc as a compiler in a short-lived process, our own loader over bpf(2), maps read through shared memory.

bcc stays out of the profiling process: its import alone costs 0.4 s and 70 MB. A child process compiles to an object
(instructions and map descriptions) that is cached by kernel and source; loading it takes milliseconds and no library.
"""
