"""The rows that take part, held in memory or scratch: vectors, labels, groups, known pairs, guide."""
