"""Choosing again among stored lists of candidates, without a search."""
