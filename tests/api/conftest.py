"""The small data folder and the trained run of the network's tests."""

from tests.network.conftest import data, quick, trained

__all__ = ["data", "quick", "trained"]
