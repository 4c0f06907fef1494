"""One run at work on a study. The main path is `coordinator.py`."""
