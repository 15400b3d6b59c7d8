"""Drawn data: defects in clean images, and whole products on backgrounds."""
