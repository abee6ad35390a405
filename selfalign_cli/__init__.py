"""selfalign: image-text retrieval with independent embeddings, VSRN and CAMERA with SelfAlign."""

__version__ = "0.1.0"
