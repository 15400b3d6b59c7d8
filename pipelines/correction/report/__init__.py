"""Stage 5: run.json and the page that people read."""
