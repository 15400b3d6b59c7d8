"""Stage 4: FID and KID per defect, of samples that the stream has left. Next: report."""
