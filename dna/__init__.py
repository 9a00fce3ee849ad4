"""Sense a running workload and encode how it behaves into a small vector, its DNA."""
