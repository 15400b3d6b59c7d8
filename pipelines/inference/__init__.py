"""Models at work: bundles, the generator's pass over images, the detector's labels."""
