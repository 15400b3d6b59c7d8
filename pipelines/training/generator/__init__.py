"""The training of a generator: its settings' resolution, its batches, its steps, what it is validated by and leaves."""
