"""A mock sky: galaxies whose truth is known, drawn as Galaxy Zoo 2 shows them, with simulated volunteers."""

from hubblefork.sky.mock.galaxies import Galaxy, draw_cutout, random_galaxy
from hubblefork.sky.mock.volunteers import vote
from hubblefork.sky.mock.write import write_mock_sky

__all__ = ["Galaxy", "draw_cutout", "random_galaxy", "vote", "write_mock_sky"]
