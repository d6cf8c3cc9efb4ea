"""hubblefork: images of galaxies to calibrated Galaxy Zoo vote fractions, and to the science they allow."""

__version__ = "0.1.0"
