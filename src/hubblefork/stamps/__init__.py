"""What the network sees: small uint8 images of one size, prepared once, memory-mapped."""
