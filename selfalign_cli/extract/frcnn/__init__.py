"""The bottom-up-attention detector (Faster R-CNN on ResNet-C4, Visual Genome classes and attributes), inference only.

Written from the description in docs/FRCNN.md, whose oddities the comments `# F1` … `# F18` refer to. Boxes are
(x1, y1, x2, y2) in pixels throughout, with widths x2 - x1.
"""
