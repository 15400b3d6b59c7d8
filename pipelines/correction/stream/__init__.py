"""Stage 2, on Ray Data: reads, decodes, corrects and commits the rows that need work.

Each row ends in the journal, with one of four statuses. `commit` calls deliver for the picture. Next: publish.
"""
