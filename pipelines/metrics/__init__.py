"""How good images are: FID and KID against real ones, and errors pixel by pixel."""
