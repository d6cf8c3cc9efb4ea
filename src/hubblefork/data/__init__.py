"""Data folders and run folders: what is in them, and what makes them."""
