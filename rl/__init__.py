"""Policies that choose among proposals from measured reward (not there yet)."""
