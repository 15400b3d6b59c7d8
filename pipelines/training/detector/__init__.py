"""Trains a detector: draws synthetic defects over images, trains, calibrates, and writes the bundle."""
