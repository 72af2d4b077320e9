"""Configuration: the model, how it is loaded, and what is generated from it."""
