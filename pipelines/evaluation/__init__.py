"""Compares model bundles on a test split: the paper's tables for your own data.

The input are shards and bundles; the output are a table, FID and KID per defect, and grids of pictures.
"""
