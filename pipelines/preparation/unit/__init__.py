"""Step 2: one unit's images become rows of a shard; masks are judged here. Next: finish."""
