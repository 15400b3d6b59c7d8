"""Readers, which list folders, tables, public datasets and products' photos as a stream of entries.

A reader reads no image, except if a dataset's method needs hashes of the contents.
"""
