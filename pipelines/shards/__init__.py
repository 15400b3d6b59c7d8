"""Shards of prepared datasets: how they are written, indexed, and read back as pixels."""
