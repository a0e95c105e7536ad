"""Vectors by an independent implementation (ethers), committed; `make.py` writes them anew."""
