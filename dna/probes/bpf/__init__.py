"""BPF sources (``*.c``) and the structures they share with their readers (``layouts``)."""
