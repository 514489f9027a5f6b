"""One run: which pairs there are, which negatives they get, shard by shard."""
