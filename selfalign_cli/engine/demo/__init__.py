"""`selfalign demo`: data → arms → scores → comparison, in one folder that can be taken up again.

Reading order: `arms` (what is compared), `world` (data, vocabulary), `run` (train, export, score), `result` (tables).
"""

from selfalign_cli.engine.demo.run import Demo, DemoView, run_demo

__all__ = ["Demo", "DemoView", "run_demo"]
