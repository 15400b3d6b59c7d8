"""HTML pages and contact sheets, whichever job they are of."""
