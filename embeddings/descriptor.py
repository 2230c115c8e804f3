"""A LiDAR scene descriptor without weights: sweeps of like surroundings are near, whichever way the vehicle looks.

`kernels.descriptor` reduces a sweep to a profile (how tall things stand at which range, Fourier magnitudes over
azimuth, reflectivity by height; sources there). Profiles of any two roads have much in common, so their own cosine
would be high for all pairs. The vector is therefore the profile in random Fourier features (Rahimi & Recht 2007) of
orthogonal directions (Yu et al. 2016): the cosine of two vectors is close to exp(-d^2 / 2) for a distance d of their
profiles: 0.1 to 0.2 for one metre of driving, 0.8 for two simulated scenes, 2 for drives of two datasets.

Invariant to yaw by construction, up to the width of a sector. Not to roll and pitch, and only roughly to the sensor:
the ground is found in the sweep, so mounting height cancels, and a cell counts once however many points hit it, but
what a beam pattern cannot see stays unseen.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from embeddings.encoder import InputSpec, WeightsMissing
from kernels.descriptor import PROFILE, fourier_features, sweep_profile

Array = NDArray[np.float64]

_ALGORITHM = "1"
_ARGUMENT = "whiten="


class DescriptorEncoder:
    """`descriptor`, or `descriptor:whiten=FILE.npz` with a whitening fitted on the vectors of a lake.

    FILE holds `mean` (228,) and `matrix` (228, k) as `fit_whitening` gives them, saved by `numpy.savez`. Each worker
    reads it when the encoder is made; the version holds its digest. Raises ValueError for an argument or a file of
    another form, WeightsMissing for a file that is not there.
    """

    light: Literal[True] = True

    def __init__(self, argument: str = "") -> None:
        if argument and (not argument.startswith(_ARGUMENT) or argument == _ARGUMENT):
            raise ValueError(f"descriptor takes whiten=FILE.npz after the colon, got {argument!r}")
        self.name = f"descriptor:{argument}" if argument else "descriptor"
        self.version, self.dim = _ALGORITHM, 2 * PROFILE
        self.input = InputSpec("lidar", 262_144, 4)
        self._argument = argument
        self._whitening: tuple[Array, Array] | None = None
        if argument:
            mean, matrix, digest = load_whitening(argument.removeprefix(_ARGUMENT), self.dim)
            self._whitening, self.dim = (mean, matrix), matrix.shape[1]
            self.version = f"{_ALGORITHM}+{digest[:12]}"

    def __reduce__(self) -> tuple[type[DescriptorEncoder], tuple[str]]:
        return type(self), (self._argument,)

    def encode(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """Sweeps float32 (n, size, 4), rows x, y, z (m, sensor frame, z up), intensity, to unit float32 (n, dim).

        Points nearer than 2.5 m or from 75 m on, or not finite, do not count; where none are left the vector is that of
        an empty profile, the same for every such sweep. The scale of intensity is free; without any it does not count.
        """
        vectors = np.empty((len(batch), self.dim), np.float32)
        for vector, points in zip(vectors, batch, strict=True):
            found = fourier_features(sweep_profile(np.ascontiguousarray(points)), self._frequencies)
            vector[:] = found if self._whitening is None else whiten(found, *self._whitening)
        return vectors

    @cached_property
    def _frequencies(self) -> Array:
        return orthogonal_frequencies(PROFILE)


def orthogonal_frequencies(dim: int) -> Array:
    """Columns f64 (dim, dim) of orthogonal directions and lengths of a normal vector's: always the same ones."""
    normal = _normal_numbers(b"descriptor frequencies", 2 * dim * dim).reshape(2, dim, dim)
    basis, triangle = np.linalg.qr(normal[0])
    # The decomposition is unique only up to signs, which libraries choose differently.
    return np.asarray(basis * np.sign(np.diag(triangle)) * np.linalg.norm(normal[1], axis=0))


def fit_whitening(vectors: NDArray[np.float32]) -> tuple[Array, Array]:
    """PCA whitening of float (n, d) vectors: their mean f64 (d,) and a matrix f64 (d, d), strongest direction first.

    `(v - mean) @ matrix` has about unit variance in every direction, so that what all sweeps of a fleet share (its
    sensor, its kind of road) no longer makes them alike. The covariance is shrunk towards a multiple of the identity by
    Ledoit & Wolf's rule (2004), which keeps directions that n vectors say little about from being blown up. Raises
    ValueError for fewer than two vectors, for numbers that are not finite, and for vectors that are all the same.
    """
    if vectors.ndim != 2 or len(vectors) < 2 or not np.isfinite(vectors).all():
        raise ValueError(f"whitening needs at least two finite vectors (n, d), got {vectors.shape}")
    rows = vectors.astype(np.float64)
    mean = rows.mean(axis=0)
    rows -= mean
    count = len(rows)
    values, directions = np.linalg.eigh(rows.T @ rows / count)
    level = values.mean()
    if not level > 1e-12:
        raise ValueError("whitening needs vectors that differ")
    spread = np.square(values - level).sum()
    noise = (np.square(np.square(rows).sum(axis=1)).sum() / count - np.square(values).sum()) / count
    share = min(1.0, noise / spread) if spread > 0 else 1.0
    shrunk = (1 - share) * np.maximum(values, 0) + share * level
    # Directions whose variance is nothing but rounding must not be divided by it.
    return mean, (directions / np.sqrt(np.maximum(shrunk, 1e-9 * level)))[:, ::-1]


def whiten(vector: Array, mean: Array, matrix: Array) -> Array:
    """`(vector - mean) @ matrix` at unit length, f64 (k,); the first axis where nothing is left of the vector."""
    found = (vector - mean) @ matrix
    length = np.linalg.norm(found)
    return np.asarray(found / length) if length > 0 else np.eye(1, len(found))[0]


def load_whitening(path: str, dim: int) -> tuple[Array, Array, str]:
    """`mean` (dim,), `matrix` (dim, k) and the SHA-256 of the file. Raises as DescriptorEncoder does."""
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise WeightsMissing(
            f"descriptor: cannot read the whitening {path}: {error.strerror}. Fit one with "
            "embeddings.descriptor.fit_whitening and save its mean and matrix with numpy.savez."
        ) from error
    try:
        with np.load(io.BytesIO(data)) as file:
            mean, matrix = (np.asarray(file[name], np.float64) for name in ("mean", "matrix"))
    except (AttributeError, EOFError, KeyError, TypeError, ValueError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path}: expected an .npz file with mean and matrix: {error}") from error
    fits = mean.shape == (dim,) and matrix.ndim == 2 and len(matrix) == dim and matrix.shape[1] > 0
    if not fits or not (np.isfinite(mean).all() and np.isfinite(matrix).all()):
        raise ValueError(
            f"{path}: expected finite mean ({dim},) and matrix ({dim}, k), got {mean.shape} and {matrix.shape}"
        )
    return mean, np.ascontiguousarray(matrix), hashlib.sha256(data).hexdigest()


def _normal_numbers(seed: bytes, count: int) -> Array:
    """Pseudo-random normal numbers by Box & Muller (1958) from a hash: the same in every version of NumPy."""
    stream = hashlib.shake_128(seed).digest(16 * count)
    uniform = (np.frombuffer(stream, "<u8").reshape(2, count) >> np.uint64(11)) * 2.0**-53
    return np.asarray(np.sqrt(-2 * np.log1p(-uniform[0])) * np.cos(2 * np.pi * uniform[1]))
