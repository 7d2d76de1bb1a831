"""`syq-dse train`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from syq_dse.cli.output import SEED, number, print_json, print_text, progress_bar
from syq_dse.cli.paths import DATASET, NETWORK, PATH, RECIPE, TARGET

if TYPE_CHECKING:
    from syq_dse.train.training import Training


LEAST_SAME = 0.98
"""Share of images on which integers and model have to agree, or there is a warning."""


@click.command()
@click.argument("point", type=PATH, required=False)
@click.option(
    "--network",
    "name",
    type=NETWORK,
    help="Shipped, a TOML file, or what `import` takes.  [the point's]",
)
@click.option(
    "--target", "board", type=TARGET, help="A shipped board or a TOML file.  [the point's]"
)
@click.option("--float", "plain", is_flag=True, help="With --network: train it without codes.")
@click.option("--uniform", metavar="WEIGHTS,BITS,GRANULARITY[,SCALE]", help="With --network.")
@click.option("--scheme", type=PATH, help="With --network: TOML or JSON.")
@click.option("--recipe", type=RECIPE, help="paper, modern, float or a TOML file.  [modern; float]")
@click.option("--epochs", type=click.IntRange(1), help="[default: the recipe's or network's]")
@click.option("--seed", type=SEED, default=0, show_default=True)
@click.option("--dataset", type=DATASET, help="A shipped data set or a TOML file.  [the network's]")
@click.option("--data", type=PATH, help="Folder of the data set.")
@click.option("--pretrained", type=PATH, help="Float network to start from.")
@click.option(
    "--measure",
    type=click.Choice(["test", "validation"]),
    default="test",
    show_default=True,
    help="On which images; the validation part is a tenth that no training sees.",
)
@click.option(
    "--check",
    "checked",
    type=click.IntRange(0),
    help="Images on which integers and model are compared.  [all that are measured]",
)
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda or cuda:N.")
@click.option("--mixed", is_flag=True, help="bfloat16 where it is safe.")
@click.option("--compile", "compiled", is_flag=True, help="torch.compile.")
@click.option(
    "--threads",
    type=click.IntRange(1, 1024),
    default=1,
    show_default=True,
    help="More help large networks on an idle machine, and round otherwise.",
)
@click.option("-o", "--out", type=PATH, help="Folder.  [trainings/NAME]")
@click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON document.")
def command(
    point: Path | None,
    name: str | None,
    board: str | None,
    plain: bool,
    uniform: str | None,
    scheme: Path | None,
    recipe: str | None,
    epochs: int | None,
    seed: int,
    dataset: str | None,
    data: Path | None,
    pretrained: Path | None,
    measure: Any,
    checked: int | None,
    device: str,
    mixed: bool,
    compiled: bool,
    threads: int,
    out: Path | None,
    as_json: bool,
) -> None:
    """Train a point, or a network with one choice for all layers, and measure its accuracy.

    Leaves model.safetensors, metrics.csv, result.json and, of a quantised network, its integers,
    which rtl and verify take. A training that broke off goes on where it was. Several GPUs:
    torchrun --nproc-per-node N -m syq_dse train ...

    \b
    Example: syq-dse train --network fmnist-vgg --uniform binary,2,row --epochs 3
    """
    from syq_dse.train import dataset as datasets
    from syq_dse.train import points, run
    from syq_dse.train.training import processes

    asked = [point, uniform, scheme, plain or None]
    if sum(value is not None for value in asked) != 1 or (point is None and name is None):
        raise click.UsageError(
            "give a point's JSON, or --network with one of --float, --uniform and --scheme"
        )
    if plain and (pretrained is not None or board is not None):
        raise click.UsageError("--float takes neither --pretrained nor --target")
    job = points.job(
        point=point,
        network=name,
        board=board,
        uniform=uniform,
        scheme_file=scheme,
        dataset=dataset,
        recipe=recipe or ("float" if plain else "modern"),
        epochs=epochs,
        seed=seed,
        part=measure,
        start=pretrained,
    )
    points.check_device(device)
    points.set_threads(threads)
    with processes(device) as own, progress_bar() as progress:
        found = datasets.load(job.network, job.dataset, data, progress=progress)
        folder = out or Path("trainings") / run.name_of(job, found, mixed)
        with _reported(progress) as report:
            result = run.train(
                job,
                found,
                folder,
                device=own,
                mixed=mixed,
                compiled=compiled,
                checked=checked,
                report=report,
            )
    if not result:  # another process of torchrun writes it
        return
    agreed = result.get("integers")
    if agreed and agreed["same_class"] < LEAST_SAME * agreed["images"]:
        click.echo(
            f"warning: {folder}: the integers give another class than the model on "
            f"{agreed['images'] - agreed['same_class']} of {agreed['images']} images; "
            "do not build them",
            err=True,
        )
    if as_json:
        print_json({"folder": str(folder), **result})
        return
    print_text(_sentence(result))
    if agreed:
        apart = sum(agreed["apart"].values())
        print_text(
            f"integer model: the same class on {agreed['same_class']} of {agreed['images']} images;"
            f" {apart} of {agreed['codes']} codes differ, on {agreed['images_apart']} images"
        )
    click.echo(folder)


def _epochs(count: int) -> str:
    return f"{count} epoch" if count == 1 else f"{count} epochs"


def _sentence(result: dict[str, Any]) -> str:
    top1, top5 = (f"{100 * result[name]:.2f} %" for name in ("top1", "top5"))
    return (
        f"{top1} of {result['measured_images']} {result['part']} images right (top-5 {top5}), "
        f"loss {result['loss']:.4f}; {_epochs(result['epochs'])} in {result['seconds']:.1f} s, "
        f"{number(result['images_per_second'])} images a second"
    )


@contextmanager
def _reported(
    progress: Callable[[int, int, str], None],
) -> Iterator[Callable[[Training, float], None]]:
    """Steps as progress, with loss, accuracy, speed and the time that is left."""

    def report(training: Training, rate: float) -> None:
        at, total = training.position, training.total_steps
        left = (total - at.steps) * training.recipe.batch / max(rate, 1e-9)
        progress(
            at.steps,
            total,
            f"steps, epoch {min(at.epoch + 1, training.settings.epochs)} of "
            f"{training.settings.epochs}, loss {at.loss / max(at.seen, 1):.3f}, accuracy "
            f"{100 * at.correct / max(at.seen, 1):.1f} %, {number(rate)} images/s, "
            f"{int(left) // 60}:{int(left) % 60:02d} left",
        )

    yield report
