"""Stages 3 and 6: assemble joins all attempts' rows into the next manifest; publish puts it in place at the end."""
