"""Clients for planners: blocking and awaitable, and what they send and return."""
