"""How it learns: recipes, networks, training and prediction."""
