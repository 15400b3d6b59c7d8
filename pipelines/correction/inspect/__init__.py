"""Stage 1: which rows of the catalog are new or have changed. No image is read. Next: stream."""
