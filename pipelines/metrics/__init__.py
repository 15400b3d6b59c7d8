"""Image metrics: FID and KID against real images, and pixel errors."""
