"""What happens to rows: schemas, storage, decoding, routing, correction, FID, reports, training data."""
