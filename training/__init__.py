"""Shards and a graph data set → a model: what images are told to be, and how that is learned."""
