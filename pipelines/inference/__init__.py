"""Runs models: loads bundles, applies the generator to images, and labels images by a detector."""
