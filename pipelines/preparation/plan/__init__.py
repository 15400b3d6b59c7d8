"""Step 1: what the readers list, each id once, cut into units of work. Next: unit."""
