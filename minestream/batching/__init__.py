"""Training batches for contrastive learning, composed of pairs: which pairs meet, without false negatives.

In the order of a run: compose.py, the command; origins.py, where the pairs come from, and the table that they are of;
pairs.py, the pairs; methods.py, which belong together; batches.py, which batch each gets; written.py, the rows and the
report.
"""
