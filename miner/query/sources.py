"""What a query is asked of: for each sensor vectors and an encoder, opened when first needed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from embeddings.encoder import Encoder
from miner.corpus import Corpus, choose_table
from miner.encoders import get_encoder
from miner.errors import UnknownName
from miner.indexes import Index
from miner.query.vectors import encoder_of
from miner.store import Store


@dataclass
class Sources:
    """Corpora and encoders by sensor (camera, lidar), for one query. Whoever asks again keeps what is behind it."""

    store: Store
    open_corpus: Callable[[str | None], Corpus]
    open_encoder: Callable[[Index], Encoder | None]
    _corpora: dict[str | None, Corpus] = field(default_factory=dict)
    _encoders: dict[str, Encoder] = field(default_factory=dict)

    def corpus(self, sensor: str | None) -> Corpus:
        """The vectors of a sensor; of cameras, else LiDAR, for None. Raises as `choose_table`."""
        if sensor not in self._corpora:
            corpus = self.open_corpus(sensor)
            self._corpora |= {sensor: corpus, corpus.index.modality: corpus}
        return self._corpora[sensor]

    def encoder(self, sensor: str) -> Encoder:
        """The encoder of a sensor's vectors. Raises as `encoder_of`."""
        if sensor not in self._encoders:
            index = self.corpus(sensor).index
            self._encoders[sensor] = encoder_of(index, self.open_encoder(index))
        return self._encoders[sensor]


def sources_of(
    store: Store, name: str | None = None, encoder: Encoder | None = None, corpus: Corpus | None = None
) -> Sources:
    """Sources that load what is not given. `name` is the encoder the user named."""

    def open_corpus(sensor: str | None) -> Corpus:
        if corpus is not None and sensor in (None, corpus.index.modality):
            return corpus
        return Corpus.of(store, table_for(store, name, sensor))

    def open_encoder(index: Index) -> Encoder | None:
        if encoder is not None and encoder.input.modality == index.modality:
            return encoder
        try:
            return get_encoder(index.encoder, index.encoder_version)
        except UnknownName:
            return None  # `encoder_of` says more

    return Sources(store, open_corpus, open_encoder)


def table_for(store: Store, name: str | None, sensor: str | None, alone: bool = True) -> str:
    """The table of a sensor's vectors: of the encoder `name`, unless that is of another sensor and not asked alone."""
    if name is not None and not alone:
        table = choose_table(store, name)
        if store.schema(table).metadata[b"modality"].decode() != sensor:
            return choose_table(store, None, sensor)
    return choose_table(store, name, sensor)
