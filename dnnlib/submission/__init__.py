"""Numbered run directories: results/NNNNN-<description>/ with a log, the options, and a file that stops the run."""
