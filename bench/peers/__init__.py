"""Searches and miners that users have today: one module each, all with the same interface.

    CLAIM                                what it computes, in one line
    prepare(vectors, labels, threads)    from float32 (n, d) and int64 (n,), not timed; may change `vectors`
    search(prepared, k)                  what is timed
    pairs(found)                         its answer as anchors and negatives, two int64 (m,)
    check(vectors, labels, k, found)     raises WrongAnswer where the answer is not what it claims
    most_rows(labels)                    optional: more rows than that it cannot take

An approximate one is a key of settings.BREADTHS: `found` is then (similarities, rows), and its recall is measured.

A package that is not installed shows as ModuleNotFoundError when the module is imported.
"""
