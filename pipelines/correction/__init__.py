"""The correction of a catalog. `job.run` calls the stages in the order of a row's way:

inspect (which rows need work) -> stream (read, decode, generate, deliver, commit) -> assemble (the next manifest, in
publish/) -> measure (FID and KID) -> report (run.json, the page) -> publish (what readers see). In comes a `plan.Plan`,
which was checked before anything is read; out go the files below OUTPUT. `layout` says where they are, `rows` what
travels between the steps. Each stage's folder has a `stage` module, or one module that does it all.
"""
