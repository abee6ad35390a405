"""`selfalign report`: runs and results on one page: curves, recalls with intervals, examples, explanations."""
