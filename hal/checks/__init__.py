"""Checks of what a machine allows, each tried for real; ``hal.capabilities`` runs them all."""
