"""Making the tables anew from the log, beside the live ones, and comparing the two."""
