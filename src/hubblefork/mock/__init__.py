"""A mock sky: galaxies whose truth is known, drawn as Galaxy Zoo 2 shows them, with simulated volunteers."""

from hubblefork.mock.galaxies import Galaxy, draw_cutout, random_galaxy
from hubblefork.mock.sky import write_mock_sky
from hubblefork.mock.volunteers import vote

__all__ = ["Galaxy", "draw_cutout", "random_galaxy", "vote", "write_mock_sky"]
