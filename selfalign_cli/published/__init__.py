"""Files of the published programs: read without running them, converted to ours."""
