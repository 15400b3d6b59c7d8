"""Stages 3 and 6: assemble joins the rows of all attempts into the next manifest; publish moves it into place."""
