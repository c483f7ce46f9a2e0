"""Recipes of awkward input, by subject; `tests.support.awkward` is the catalogue of all."""
