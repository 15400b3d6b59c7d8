"""Frechet and Kernel Inception Distance: features, mergeable statistics, distances, the report's table."""
