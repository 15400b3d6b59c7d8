"""Stage 5: writes run.json and the report page."""
