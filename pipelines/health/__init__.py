"""The health of prepared shards: what is in them, what training would trip over, and what leaks across the split."""
