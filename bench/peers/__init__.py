"""Exact searches that users have today: one module each, with the same two functions."""
