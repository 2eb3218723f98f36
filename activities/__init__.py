"""What workflows cause in the world, one class a capability; the world comes in by ports."""
