"""Comparing model bundles on a test split: FID, KID, PSNR and L1 per defect, with intervals and pictures."""
