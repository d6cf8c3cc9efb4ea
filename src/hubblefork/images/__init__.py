"""Images: archives and folders of them, decoding, and what they show of the sky."""
