"""Measures and probes a line from outside its processes."""
