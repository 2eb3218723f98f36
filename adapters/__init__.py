"""The only place that touches the world: SQL, files, settings, Temporal's address."""
