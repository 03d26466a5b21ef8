"""The table of commands: what each is called with, and the function that does it."""

import argparse
from collections.abc import Callable
from dataclasses import dataclass

Run = Callable[[argparse.Namespace], int]
Configure = Callable[[argparse.ArgumentParser], object]


@dataclass(frozen=True)
class Command:
    """A command: its line of ``help``, its arguments, and what returns the exit code."""

    help: str
    configure: Configure
    run: Run


COMMANDS: dict[str, Command] = {}


def command(name: str, help: str, configure: Configure) -> Callable[[Run], Run]:
    """Register the decorated function; ``configure`` adds its arguments to a parser."""

    def register(run: Run) -> Run:
        if name in COMMANDS:
            raise ValueError(f"the command {name} is already defined")
        COMMANDS[name] = Command(help, configure, run)
        return run

    return register
