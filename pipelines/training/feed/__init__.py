"""The order of an epoch's rows, and their batches: the same for any number of workers, and after a restart."""
