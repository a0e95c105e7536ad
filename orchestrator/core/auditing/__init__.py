"""Proving the log against itself and against what the chains show. Pure: it is fed, it concludes.

Everything is judged from facts and from the chain's own answers, by rules of its own: the folds
that the service runs on are not used, so that an error in them is not repeated here.
"""
