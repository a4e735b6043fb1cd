"""The sets, one small file each."""

from paper.protocol import Protocol
from paper.sets import (
    cars,
    cifar10,
    cifar10_gpt4o,
    emotion,
    emotion_tuned,
    fashion_mnist,
    irony,
    irony_claude,
    vqa_rad,
)


PROTOCOLS: dict[str, Protocol] = {
    module.PROTOCOL.name: module.PROTOCOL
    for module in (
        vqa_rad,
        emotion,
        irony,
        irony_claude,
        cars,
        cifar10_gpt4o,
        fashion_mnist,
        emotion_tuned,
        cifar10,
    )
}
"""The quick ones first."""
