"""The check of a prepared dataset before a training: broken rows, leaks between the splits, pairs that do not match.

In come shards; out go findings and a page.
"""
