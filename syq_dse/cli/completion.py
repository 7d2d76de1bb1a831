"""`syq-dse completion`."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

VARIABLE = "_SYQ_DSE_COMPLETE"
"""By which click asks the program for completions."""


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def command(context: click.Context, shell: str) -> None:
    """Print the script by which a shell completes commands, options and names.

    bash takes it in ~/.bashrc, zsh in ~/.zshrc, as `eval "$(syq-dse completion bash)"`; fish in
    ~/.config/fish/completions/syq-dse.fish, as the script itself.

    \b
    Example: syq-dse completion bash
    """
    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(context.find_root().command, {}, "syq-dse", VARIABLE).source())
