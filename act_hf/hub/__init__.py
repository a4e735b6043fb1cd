"""Data sets and models on the Hub: pushed whole or not at all, with cards that say how they were made."""

from act_hf.hub.address import HUB, Address, is_address, parse_address


__all__ = ["HUB", "Address", "is_address", "parse_address"]
