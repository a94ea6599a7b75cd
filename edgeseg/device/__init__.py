"""Read what machine this is and what is wrong with it."""
