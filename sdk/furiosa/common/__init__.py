"""Vocabulary that every package shares: names, selectors, tensors, errors, views and their wire form."""
