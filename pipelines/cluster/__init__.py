"""What the project asks of Ray: sessions, placement of steps on CPUs and GPUs, progress."""
