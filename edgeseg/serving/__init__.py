"""Models for servers and runtimes of others."""
