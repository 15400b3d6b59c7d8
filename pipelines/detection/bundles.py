"""Detector bundles from any storage."""

from model.detector import STARTER_DETECTOR, DetectorBundle, load_detector
from pipelines.bundles import fetched

#: Stands for the bundle that ships with the project.
STARTER = "starter"


def read_detector(uri: str, flag: str = "--detector") -> DetectorBundle:
    """The bundle at `uri`, fetched where it is remote; 'starter': the one that ships, wherever this machine has it.

    Raises ConfigurationError naming the flag.
    """
    if uri == STARTER:
        return load_detector(STARTER_DETECTOR)
    return fetched(uri, flag, load_detector)
