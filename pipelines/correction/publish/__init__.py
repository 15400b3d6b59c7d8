"""Stage 3: journals of all attempts become the next manifest, whose rows are exactly the catalog's. Next: measure."""
