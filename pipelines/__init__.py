"""Everything between a job's command line and the networks: a room for each job, and shared rooms below.

Rooms of jobs, which do not import each other: correction (correct_catalog), maintenance (maintain_output), preparation
(prepare_dataset), checking (check_dataset), training (train, train_detector), evaluation (evaluate), sample_catalog
(make_sample_catalog).

Shared rooms, in floors: a room imports those of lower floors only.

    shards  metrics  inference  saliency    what several jobs do with images and models
    published                               the output of a correction, which is made and maintained
    synthesis                               defects and products that are drawn
    contracts                               schemas, label maps, error codes: what others rely on
    images  cluster                         files to pixels and back; what is asked of Ray
    reports                                 HTML pages and pictures
    storage                                 local folders, S3, parquet, locks

tests/test_house.py keeps it so.
"""
