"""What the generator says of a square, as an edit of the upload at its own size, whose details it keeps."""
