"""A store → a graph data set: recipes, property paths, the array graph and what it selects."""
