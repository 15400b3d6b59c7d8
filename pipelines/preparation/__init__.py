"""Preparation of training shards from photos, folders and tables, in three steps.

Readers list the images, `plan` divides the list into units, `unit` makes shard rows from the images, and `finish` adds
up the counts and writes the report.
"""
