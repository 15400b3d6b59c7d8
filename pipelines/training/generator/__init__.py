"""Trains a generator: batches, the training loop, validation, and the results it writes."""
