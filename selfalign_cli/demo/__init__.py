"""`selfalign demo`: data → arms → scores → comparison, in one folder that can be taken up again.

Reading order: `scenes` (the embedded data set), `arms` (what is compared), `world` (data, vocabulary), `run` (train,
export, score), `result` (tables).
"""
