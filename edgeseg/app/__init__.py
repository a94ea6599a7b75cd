"""Compose what the other rooms offer into whole tasks: run, compile, train, bench. Prints nothing, knows no typer."""
