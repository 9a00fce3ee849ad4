"""Sources of measurement, one file each."""
