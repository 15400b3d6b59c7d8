"""Trains generators (`generator`) and detectors (`detector`), which share the loop, the checkpoints and the feed.

A training reads shards, and writes checkpoints and a model bundle. `on_ray` runs the same workers on Ray Train.
"""
