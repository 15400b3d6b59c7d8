"""Makes the HTML pages and contact sheets of all jobs."""
