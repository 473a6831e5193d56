"""What stands in for something that Lightning lacks; each file names the gap. The trainer's commands add these parts.

progress.py: how far a run is, on a terminal and in a log file
log_interval.py: curves of runs of a few steps
model_summary.py: the parameters of each part of a model
"""
