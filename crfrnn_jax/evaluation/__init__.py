"""Evaluation: prediction, scores, tuning of a post-processing CRF, panels, the report."""
