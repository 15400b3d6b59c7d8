"""The correction of a catalog: read, decode, route, correct, encode, commit, report."""
