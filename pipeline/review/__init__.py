"""The review station: operators decide on rejected panels, engineers see the line. It reads the store."""
