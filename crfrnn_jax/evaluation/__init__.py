"""Evaluation: prediction, scores, tuning of a CRF as post-processing, panels."""
