"""Training batches for contrastive learning, composed of mined pairs: which pairs meet, without false negatives.

In the order of a run: compose.py, the command; pairs.py, the pairs and the table that they were mined from; methods.py,
which pairs belong together; batches.py, which batch each gets; written.py, the rows and the report.
"""
