"""Contain the command lines of the seven jobs: parse, validate, print the resolved configuration, run, exit code."""
