"""Orders an epoch's rows and makes batches of them: the same in every run, and after a restart."""
