"""Encoders by name, with the product's errors: what a command or a notebook should call."""

from __future__ import annotations

from embeddings.encoder import AdaptiveEncoder, Encoder, PlacedEncoder, Processor, WeightsMissing, load_encoder
from embeddings.plugins import UnknownPlugin, plugin_names
from miner.errors import MinerError, UnknownName, UsageError


def get_encoder(name: str, version: str | None = None, processor: Processor = "any") -> Encoder:
    """The encoder `name` for a processor, in `version` where it can be had here: whoever needs it compares.

    Raises UnknownName for an unknown one, MinerError when its weights cannot be had.
    """
    try:
        encoder = load_encoder(name)
        if isinstance(encoder, PlacedEncoder):
            encoder = encoder.on(processor)
        return in_version(encoder, version)
    except UnknownPlugin as error:
        raise UnknownName.of("encoder", name.partition(":")[0], plugin_names("miner.encoders")) from error
    except ValueError as error:  # what follows the colon makes no sense to the encoder
        raise UsageError(f"encoder {name!r}: {error}") from error
    except WeightsMissing as error:
        raise MinerError(str(error)) from error


def in_version(encoder: Encoder, version: str | None) -> Encoder:
    """The encoder that makes vectors of `version` where it can be had here, else the one given."""
    return encoder.as_version(version) if version and isinstance(encoder, AdaptiveEncoder) else encoder
