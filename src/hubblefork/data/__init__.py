"""What the survey saw: images, catalogues, and a mock sky whose truth is known."""
