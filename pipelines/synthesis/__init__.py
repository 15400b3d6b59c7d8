"""What the project draws itself: defects in clean images, and whole products on grounds."""
