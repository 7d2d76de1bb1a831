"""`syq-dse import`."""

from __future__ import annotations

from pathlib import Path

import click

from syq_dse.cli.output import print_aside
from syq_dse.cli.paths import DATASET, PATH


@click.command()
@click.argument("source")
@click.option("--input", "sizes", metavar="N,C,H,W", help="Of a module.  [default: 1,3,224,224]")
@click.option("--name", help="Of the network.  [default: the file's or function's]")
@click.option("--dataset", type=DATASET, help="To train on.  [default: by image size and classes]")
@click.option("-o", "--out", type=PATH, help="The network's file.  [default: NAME.toml]")
def command(
    source: str, sizes: str | None, name: str | None, dataset: str | None, out: Path | None
) -> None:
    """Bring a network in from ONNX or PyTorch.

    SOURCE is an ONNX or QONNX file, or package.module:function, which gives a torch.nn.Module.
    NAME.toml is the network, NAME.safetensors its weights, from which `train --pretrained` starts,
    and NAME-scheme.toml the precisions of one that is quantised. `--network` takes a source, too.

    \b
    Example: syq-dse import small.onnx -o small.toml
    """
    from dataclasses import replace

    from syq_dse.interop import files
    from syq_dse.network import Conv

    found = files.read(source, sizes, dataset)
    wanted = name or (out.stem if out is not None else found.file.name)
    found = replace(found, file=replace(found.file, name=wanted))
    convs = [layer for layer in found.file.layers if isinstance(layer, Conv)]
    if source.lower().endswith(".onnx") and not any(conv.batch_norm for conv in convs):
        print_aside(
            "no batch-norm is left in the file; exporters fold it into weights, unless told "
            "otherwise (torch.onnx.export: optimize=False)"
        )
    for path in files.write(found, out or Path(f"{wanted}.toml")):
        click.echo(path)
