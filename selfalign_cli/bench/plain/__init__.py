"""The computations as the released programs do them: baselines of the benches, oracles of the tests."""
