"""Models for servers of others, and the client that streams through one."""
