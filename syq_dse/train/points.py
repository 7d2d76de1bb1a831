"""What a command asks to be trained, as a job."""

from __future__ import annotations

from pathlib import Path

import torch

from syq_dse import catalogue, records, scheme
from syq_dse import network as networks
from syq_dse.cost import design
from syq_dse.errors import InputError
from syq_dse.network import Network
from syq_dse.quant.integer import Method
from syq_dse.train import recipe as recipes
from syq_dse.train.run import Job, Part


def job(
    *,
    point: Path | None = None,
    network: str | None = None,
    board: str | None = None,
    uniform: str | None = None,
    scheme_file: Path | None = None,
    recipe: str,
    dataset: str | None = None,
    epochs: int | None,
    seed: int,
    part: Part,
    start: Path | None,
) -> Job:
    """The job of a point, of a scheme for a network, or, without either, of the float network.

    Args:
        network: a shipped network or a TOML file; of a point None for the one that it names.
        board: what it is built for, which decides how layers make codes; None: a point's own.

    Raises:
        InputError: a file is missing or broken, or does not fit the network.
    """
    chosen: scheme.Scheme | None = None
    methods: dict[str, Method] | None = None
    if point is not None:
        net = network_of(point) if network is None else networks.load(network)
        asked = design.read(net, point)
        chosen = asked.scheme
        methods = design.methods(net, asked, board or asked.target)
    else:
        assert network is not None
        net = networks.load(network)
        own: design.Asked | None = None
        if uniform is not None:
            own = design.uniform(net, uniform)
        elif scheme_file is not None:
            own = design.read(net, scheme_file)
        if own is not None:
            chosen, methods = own.scheme, design.methods(net, own, board)
    found = recipes.load(recipe)
    return Job(
        network=net,
        scheme=chosen,
        recipe=found,
        dataset=catalogue.whole(dataset or net.file.recipe.dataset),
        epochs=epochs or found.epochs or net.file.recipe.epochs,
        seed=seed,
        part=part,
        start=start,
        methods=methods,
    )


def network_of(point: Path) -> Network:
    """The network that a point's file names.

    Raises:
        InputError: no such file, or it names none.
    """
    name = records.read(point).get("network")
    if not isinstance(name, str):
        raise InputError(f"{point}: is no point: it names no network; `export` writes one")
    try:
        return networks.load(name)
    except InputError as error:
        raise InputError(
            f"{point}: {error}; of a network of your own give --network FILE"
        ) from None


def check_device(device: str) -> None:
    """Refuse a device that is not there.

    Raises:
        InputError: an unknown name, or no such GPU.
    """
    kind, colon, index = device.partition(":")
    if kind not in ("cpu", "cuda") or (colon and (kind == "cpu" or not index.isdecimal())):
        raise InputError(f"device must be cpu, cuda or cuda:N, got '{device}'")
    if kind == "cuda" and not torch.cuda.is_available():
        raise InputError("device 'cuda': no GPU is found; use --device cpu")
    if index and int(index) >= torch.cuda.device_count():
        raise InputError(f"device '{device}': there are {torch.cuda.device_count()} GPUs")


def gpus() -> list[str]:
    """Names of the GPUs that are there."""
    if not torch.cuda.is_available():
        return []
    return [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]


def set_threads(threads: int) -> None:
    """Threads of torch in this process."""
    torch.set_num_threads(threads)
