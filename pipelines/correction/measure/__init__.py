"""Stage 4: computes FID and KID per defect from the samples that the stream kept. Next: report."""
