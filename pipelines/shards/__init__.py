"""Writes and indexes the shards of prepared datasets, and reads them as pixels."""
