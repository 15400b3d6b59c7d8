"""The defect detector: training samples, training, calibration, and labelling."""
