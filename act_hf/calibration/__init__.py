"""Error probabilities that mean what they say, learnt from the rows that people have reviewed."""

from act_hf.calibration.stage import METHODS, calibrate


__all__ = ["METHODS", "calibrate"]
