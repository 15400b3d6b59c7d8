"""The sample catalog: drawn uploads with exact truth, odd encodings and fallible labels."""
