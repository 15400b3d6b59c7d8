"""Step 3: add up the counts and failures of all units, write the report and dataset.json."""
