"""What a file holds, and its faults."""
