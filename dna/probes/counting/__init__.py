"""How ``dna.probes.counters`` counts: what (plan), on which threads or CPUs (threads, cpus), and what it adds up to."""
