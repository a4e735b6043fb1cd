"""emotion again, with a whole encoder trained in every arm."""

from dataclasses import replace

from paper.protocol import Tuning
from paper.sets import emotion


PROTOCOL = replace(
    emotion.PROTOCOL,
    name="emotion_tuned",
    backbone="MiniLM, all of it trained (`train_classifier`)",
    tuning=Tuning(),
    seeds=3,
    chosen_on={**emotion.PROTOCOL.chosen_on, "epochs, rate": "not chosen: 4 epochs at 5e-5, set beforehand"},
)
