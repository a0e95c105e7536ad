"""Reading bank statements, and telling how a day closed."""
