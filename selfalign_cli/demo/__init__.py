"""`selfalign demo`: data → arms → scores → comparison, in one folder, resumable.

Reading order: `scenes` (the embedded data set), `arms` (what is compared), `world` (data, vocabulary), `run` (train,
export, score), `result` (tables).
"""
