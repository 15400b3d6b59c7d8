"""The correction of a catalog. `job.run` calls the stages in the order of a row's way:

inspect (which rows need work) -> stream (read, decode, generate, deliver, commit) -> publish (the manifest) -> measure
(FID and KID) -> report. In comes a `plan.Plan`, which was checked before anything is read; out go the files below
OUTPUT. `layout` says where they are, `rows` what travels between the steps.
"""
