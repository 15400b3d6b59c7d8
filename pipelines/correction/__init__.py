"""The correction of a catalog. `job.run` calls the stages in this order:

inspect (find the rows that need work) -> stream (read, decode, generate, deliver, commit) -> assemble (the next
manifest, in publish/) -> measure (FID and KID) -> report (run.json, the page) -> publish (move the files to where
readers see them). The input is a `plan.Plan`, checked before any image is read; the output are the files below OUTPUT.
`published.layout` names these files, `rows` has the schemas between the steps. Stages begin in the `stage` module of
their folder, measure in `measure.fid`, and report in `report.run_report`.
"""
