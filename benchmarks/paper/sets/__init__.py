"""The sets, one small file each."""

from paper.protocol import Protocol
from paper.sets import (
    cars,
    cifar10,
    cifar10_gpt4o,
    emotion,
    fashion_mnist,
    irony,
    irony_claude,
    vqa_rad,
)


PROTOCOLS: dict[str, Protocol] = {
    module.PROTOCOL.name: module.PROTOCOL
    for module in (vqa_rad, emotion, irony, irony_claude, cars, fashion_mnist, cifar10_gpt4o, cifar10)
}
"""The quick ones first."""
