"""The command line: one thin file a command, loaded when it is called."""

from __future__ import annotations

import importlib
import logging
import sys
import warnings
from typing import Any, NoReturn

import click

from syq_dse import __version__
from syq_dse.cli import terminal
from syq_dse.errors import SyqDseError

COMMANDS = {
    "explore": "Search precision and granularity; leave a run folder with a Pareto front.",
    "estimate": "Price one design, layer by layer.",
    "networks": "List the shipped networks.",
    "targets": "List the shipped boards.",
    "plot": "Draw the front of a run.",
    "report": "Write a run as one page that opens in a browser.",
    "compare": "Set two runs beside each other.",
    "import": "Bring a network in from ONNX or PyTorch.",
    "export": "Write a point of a run for training or other tools.",
    "train": "Train a point, or a float network, and measure its accuracy.",
    "profile": "Measure how sensitive each layer and tensor is.",
    "validate": "Train points of a run; put measured accuracies on its front.",
    "worker": "Take trainings of a run from its queue.",
    "rtl": "Write a design as Verilog.",
    "verify": "Synthesise a point and compare.",
    "calibrate": "Fit LUT prices to synthesis of the hardware units.",
    "doctor": "Say what is installed and what is missing.",
    "completion": "Print the script by which a shell completes what is typed.",
}
"""Every command and its short help: `--help` shows them without loading any."""


EXTRAS = {
    "torch": "train",
    "PIL": "train",
    "amaranth": "rtl",
    "pyosys": "rtl",
    "onnx": "onnx",
    "psycopg": "postgresql",
    "grpc": "grpc",
}
"""Libraries that only some commands need, and the extra that installs each."""


class Interrupted(SyqDseError):
    """The user pressed Ctrl-C."""

    exit_code = 130  # 128 + SIGINT, as a shell reports it


def interrupted(error: BaseException | None) -> bool:
    """Whether Ctrl-C is behind an error: a storage or a lock may turn it into one of its own."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__context__
    return error is not None


class _Lazy(click.Group):
    """A group that imports a command's module when that command is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command = importlib.import_module(f"syq_dse.cli.{cmd_name}").command
        assert isinstance(command, click.Command)
        terminal.options(command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as error:  # click itself would print an empty line for it
            raise Interrupted(str(error) or "interrupted") from None
        except RuntimeError as error:  # "release unlocked lock", where it fell into a wait
            if not interrupted(error):
                raise
            raise Interrupted("interrupted") from None


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="syq-dse")
def cli() -> None:
    """Design space exploration of SYQ-quantised networks, on FPGAs and in silicon.

    \b
    Example: syq-dse explore --network fmnist-vgg --target zcu102
    """


terminal.options(cli)


def main() -> None:
    """Run the command line; an error is one line, with the exit code of its kind.

    Without arguments it shows its help and exits as on wrong usage. A reader of standard output who
    leaves early ends it with exit code 1 and no message.
    """
    # Of matplotlib, where the home cannot be written, beside the one line of an error.
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    # Of Amaranth, where a command ends before the hardware that it has described is written.
    warnings.filterwarnings("ignore", r"(?s).*created but never used")
    try:
        cli.main(prog_name="syq-dse", standalone_mode=False)
    except SyqDseError as error:
        _fail(str(error), error.exit_code)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        sys.exit(error.exit_code)
    except click.UsageError as error:
        path = error.ctx.command_path if error.ctx else "syq-dse"
        rule = " ".join(error.format_message().split()).rstrip(".")
        _fail(f"{rule}; see `{path} --help`", error.exit_code)
    except ModuleNotFoundError as error:
        library = (error.name or "").partition(".")[0]
        if library not in EXTRAS:
            raise
        remedy = f"pip install 'syq-dse[{EXTRAS[library]}]'"
        _fail(f"{library} is not installed, which this command needs; {remedy}", 1)
    except OSError as error:  # what no command foresees: a full disk, a name that is too long
        _fail(f"{error.filename or 'output'}: {error.strerror or error}", SyqDseError.exit_code)


def _fail(message: str, exit_code: int) -> NoReturn:
    """Exit with one line on standard error."""
    name = "syq-dse:"
    terminal.echo(f"{name} {terminal.printable(message)}", "bold red", len(name), "err")
    sys.exit(exit_code)
