"""Look at data and outputs: profile, describe, compare, verify, and their HTML pages."""
