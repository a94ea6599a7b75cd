"""The steps of a compilation: each reads the frozen ``Job`` and what earlier steps returned, and changes neither."""
