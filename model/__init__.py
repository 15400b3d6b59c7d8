"""The method: networks, losses, training step and bundles in plain PyTorch.

It imports neither Ray nor storage nor jobs, so that it runs on any machine with PyTorch.
"""
