"""Checks a prepared dataset before a training: broken rows, leaks between the splits, pairs that do not match.

The input are shards; the output are findings and a page.
"""
