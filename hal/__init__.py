"""Hardware abstraction: the only code that touches the machine."""
