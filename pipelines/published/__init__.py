"""The output of a correction, for the jobs that write and maintain it: names of files, keys of rows, publication.

correction makes what is published; maintenance returns to earlier manifests, removes what none names, and erases.
"""
