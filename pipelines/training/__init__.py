"""Training: from prepared shards to a bundle, in process or on Ray Train workers."""
