"""Readers: what teams have (folders, tables, public datasets, products' photos) as a stream of entries.

A reader lists; it reads no image, except to tell contents apart where a dataset's method asks for it.
"""
