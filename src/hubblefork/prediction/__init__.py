"""Prediction: images in, fractions out, by the fastest runtime; PyTorch is loaded only where it is needed."""
