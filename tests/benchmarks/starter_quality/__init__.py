"""How good are the pictures that a bundle publishes? See `__main__`, which is the command."""
