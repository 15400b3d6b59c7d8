"""How good are the pictures that a bundle publishes? `__main__` is the command."""
