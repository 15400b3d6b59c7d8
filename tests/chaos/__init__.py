"""Correction under chaos: a catalog is corrected while processes, nodes and storage fail, and every row is counted."""
