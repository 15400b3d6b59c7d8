"""Training of generators (`generator`) and detectors (`detector`), which share loop, checkpoints and feed.

In come shards; out go checkpoints and a model bundle. `on_ray` runs the same workers on Ray Train.
"""
