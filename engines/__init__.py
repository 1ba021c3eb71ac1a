"""Images -> anomaly maps. Knows no line, camera or PLC."""
