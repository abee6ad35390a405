"""The embedded data set: rendered scenes of coloured shapes, with look-alikes that bind the same words differently."""

from selfalign_cli.demo.scenes.make import SceneSummary, make_scenes, split_sizes

__all__ = ["SceneSummary", "make_scenes", "split_sizes"]
