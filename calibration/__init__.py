"""Good panels -> recipe. Runs off the line."""
