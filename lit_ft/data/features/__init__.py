"""Features on disk and in memory: flat arrays with offsets."""
