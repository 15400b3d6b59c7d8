"""Training shards from photos with masks: defects made, masks judged, splits kept."""
