"""The preparation of a dataset: readers list images, plan cuts them into units, unit makes rows of shards from the
images, finish counts and writes the report. In come photos, folders and tables; out go shards, which training reads.
"""
