"""Mined rows in the formats that trainers read."""
