"""The training of a detector: made defects over clean images, calibration, and the bundle that it leaves."""
