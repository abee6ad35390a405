"""The same computations the straightforward way, as the released programs do them: to time against and to test by."""
