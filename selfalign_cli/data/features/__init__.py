"""The feature file: its layout, its reader and its writer."""
