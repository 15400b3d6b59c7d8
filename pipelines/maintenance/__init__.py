"""The maintenance of a correction's output: `rollback` to an earlier manifest, `clean` what no manifest names, `erase`
ids on request. Each verb is a module; all hold the output's lock, and `run` publishes what they change.
"""
