"""Time and durability: the life of a case as a Temporal workflow."""
