"""The rules of the mechanism. Pure: the moment is always an argument."""
