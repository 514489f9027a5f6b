"""Mining of a stream: each row among the rows just before it."""
