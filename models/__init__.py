"""Prediction problems, the models fitted to them, and what can be said about how right they are."""
