"""Raw rows -> features on disk, once per machine."""
