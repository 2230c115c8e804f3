"""Encoders by name, with the product's errors: what a command or a notebook should call."""

from __future__ import annotations

from embeddings.encoder import AdaptiveEncoder, Encoder, WeightsMissing, load_encoder
from embeddings.plugins import UnknownPlugin, plugin_names
from miner.errors import MinerError, UnknownName, UsageError


def get_encoder(name: str, version: str | None = None) -> Encoder:
    """The encoder `name`, in `version` where it can be had here: whoever needs it compares.

    Raises UnknownName for an unknown one, MinerError when its weights cannot be had.
    """
    try:
        return in_version(load_encoder(name), version)
    except UnknownPlugin as error:
        raise UnknownName.of("encoder", name.partition(":")[0], plugin_names("miner.encoders")) from error
    except ValueError as error:  # what follows the colon makes no sense to the encoder
        raise UsageError(f"encoder {name!r}: {error}") from error
    except WeightsMissing as error:
        raise MinerError(str(error)) from error


def in_version(encoder: Encoder, version: str | None) -> Encoder:
    """The encoder that makes vectors of `version` where it can be had here, else the one given."""
    return encoder.as_version(version) if version and isinstance(encoder, AdaptiveEncoder) else encoder
