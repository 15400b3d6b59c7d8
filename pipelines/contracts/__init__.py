"""Defines what other systems rely on: schemas, the label map, error codes, marketplace profiles, stable hashes."""
