"""How it learns: recipes, networks, training and prediction."""

from hubblefork.network.operators import declare_missing_operators

declare_missing_operators()
