"""Connectors: inference engines that keep their state in a mnemo daemon."""
