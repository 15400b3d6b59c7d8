"""The method: networks, losses, training step and bundles in plain torch.

Imports nothing of Ray, storage or jobs, so that it runs on a bare GPU machine.
"""
