"""Stage 1: finds the rows of the catalog that are new or have changed, without reading an image. Next: stream."""
