"""Stage 2, on Ray Data: rows that need work are read, decoded, corrected by the generator and committed.

Each row ends in the journal, with one of four statuses; `commit` asks deliver for the picture. Next: publish.
"""
