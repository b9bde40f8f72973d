"""Ask a language model what the graph's own rules can only guess: types, visuality, attributes."""
