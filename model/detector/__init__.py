"""The defect detector: its network and bundle, and its training step."""
