"""Models for servers of others."""
