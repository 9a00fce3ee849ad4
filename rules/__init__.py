"""Rules in Python files, from DNA to a proposed configuration (not there yet)."""
