"""Contain the command lines of the eight jobs: parse, validate, print the resolved configuration, run, exit code."""
