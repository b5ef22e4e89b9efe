"""Engines: what computes a step and a decode, and the choice among them."""
