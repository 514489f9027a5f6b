"""Losses with gradients, and a linear embedding that is fitted to mined triplets."""
