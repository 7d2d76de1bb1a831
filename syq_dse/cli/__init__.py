"""The command line: one thin file a command, loaded when it is called."""

from __future__ import annotations

import importlib
import sys

import click

from syq_dse import __version__
from syq_dse.errors import SyqDseError

COMMANDS = {
    "explore": "Search precision and granularity; leave a run folder with a Pareto front.",
    "estimate": "Price one design, layer by layer.",
    "networks": "List the shipped networks.",
    "targets": "List the shipped boards.",
    "plot": "Draw the front of a run.",
    "export": "Write a point of a run for training.",
}
"""Every command and its short help: `--help` shows them without loading any."""


class _Lazy(click.Group):
    """A group that imports a command's module when that command is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command = importlib.import_module(f"syq_dse.cli.{cmd_name}").command
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="syq-dse")
def cli() -> None:
    """Design space exploration of SYQ-quantised convolutional networks on FPGAs.

    \b
    Example: syq-dse explore --network fmnist-vgg --target zcu102
    """


def main() -> None:
    """Run the command line; a user's error is one line, with the exit code of its kind."""
    try:
        cli.main(prog_name="syq-dse", standalone_mode=False)
    except SyqDseError as error:
        click.echo(f"syq-dse: {' '.join(str(error).splitlines())}", err=True)
        sys.exit(error.exit_code)
    except click.Abort:
        click.echo("syq-dse: interrupted; what was finished is kept", err=True)
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except BrokenPipeError:
        sys.stderr.close()  # the reader has left: nothing more to say
        sys.exit(0)
