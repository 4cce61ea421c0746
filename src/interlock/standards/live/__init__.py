"""Checks of a running service, whatever it is written in: requests are sent, answers are judged."""
