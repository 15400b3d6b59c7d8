"""Works with Ray: sessions, placement of steps on CPUs and GPUs, progress."""
