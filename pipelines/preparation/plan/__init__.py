"""Step 1: take each listed id once and divide the list into units of work. Next: unit."""
