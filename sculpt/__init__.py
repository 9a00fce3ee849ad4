"""The control loop (not there yet)."""
