"""Files, streams and arrays become checked rows: listing, columns, decoding, conditions, known pairs."""
