"""What a simulated line is made of besides processes: panels, their defects, watermarks, the trigger wire."""
