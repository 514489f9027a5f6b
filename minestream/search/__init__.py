"""The exact search: the best candidates of every pair under a rule; screens propose, float64 distances decide.

Five index spaces meet here, and every array says which one it is by:

    source row   0 1 2 3 4 5 6 7     a row of the input, counted before anything is dropped (here 2 and 5 are)
    slot         0 1   2 3   4 5     a row that takes part; vectors, labels and ids are by slot: source_row[slot]
    lane         3 0 5 1 2 4         a slot in the order of one search: anchors, then candidates only, each so that
                                     rows that are near each other stand together (order.py): slot[lane]
    place        0 1 2               an anchor of the search, in the order asked for: place[lane], lane_of_place[place]
    pair         0 1 | 2 | 3 4 5     an (anchor, positive); those of an anchor are start[place] ... start[place + 1] - 1

What comes back is by pair and names slots; the rows of an output name source rows.
"""
