"""The comparison of model bundles on a test split: the paper's tables for one's own data.

In come shards and bundles; out go a table, FID and KID per defect, and grids of pictures.
"""
