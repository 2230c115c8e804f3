"""Encoders by name, with the product's errors: what a command or a notebook should call."""

from __future__ import annotations

from embeddings.encoder import Encoder, WeightsMissing, load_encoder
from embeddings.plugins import UnknownPlugin, plugin_names
from miner.errors import MinerError, UnknownName, UsageError


def get_encoder(name: str) -> Encoder:
    """The encoder `name`. Raises UnknownName for an unknown one, MinerError when its weights cannot be had."""
    try:
        return load_encoder(name)
    except UnknownPlugin as error:
        raise UnknownName.of("encoder", name.partition(":")[0], plugin_names("miner.encoders")) from error
    except ValueError as error:  # what follows the colon makes no sense to the encoder
        raise UsageError(f"encoder {name!r}: {error}") from error
    except WeightsMissing as error:
        raise MinerError(str(error)) from error
