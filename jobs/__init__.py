"""Thin entry points: parse, validate, print the resolved configuration, call, exit code."""
