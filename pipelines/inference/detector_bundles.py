"""Reads detector bundles from any storage."""

from model.detector.network import DetectorBundle, load_detector
from pipelines.inference.bundles import fetched


def read_detector(uri: str, flag: str = "--detector") -> DetectorBundle:
    """Return the detector bundle at `uri`, downloaded if it is remote. Raises ConfigurationError naming the flag."""
    return fetched(uri, flag, load_detector)
