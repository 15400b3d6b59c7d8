"""Step 3: counts and failures of all units, the report, dataset.json."""
