"""Step 2: turn one unit's images into rows of a shard, and judge masks. Next: finish."""
