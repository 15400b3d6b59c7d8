"""Files wherever they are: local folders, S3 and what else fsspec knows; parquet in units of work; locks."""
