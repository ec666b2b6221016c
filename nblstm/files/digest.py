"""The digest of a file's content: it notices what a disk, a cable or a program has changed since the file was written.

It stands in the metadata under DIGEST, as "sha256:" and 64 hex digits: the SHA-256 of the JSON text

    {"metadata": all other metadata, "tensors": {name: [dtype, shape, SHA-256 of the tensor's bytes]}}

with sorted keys and no blanks. Where a tensor lies in the file is not part of it, so a program that writes the same
tensors and metadata in another order keeps it valid. A file without one, as older versions and other programs write
it, is read as it is. Whoever can change a file can also change its digest: it is no signature.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from nblstm.errors import ModelFileError
from nblstm.files.safetensors import DTYPE_NAMES, Path, little_endian

DIGEST = "nblstm_sha256"
ALGORITHM = "sha256:"


def with_digest(tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> dict[str, str]:
    """Add the digest of the tensors and the metadata to the metadata."""
    return {**metadata, DIGEST: _digest(tensors, metadata)}


def without_digest(tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str], path: Path) -> dict[str, str]:
    """Check the digest and leave it out of the metadata. ModelFileError if the content is not what it was.

    A digest is known by its name or by its value, so that damage to either does not pass for a file without one.
    """
    rest = {name: text for name, text in metadata.items() if name != DIGEST and not text.startswith(ALGORITHM)}
    found = {name: text for name, text in metadata.items() if name not in rest}
    if found and found != {DIGEST: _digest(tensors, rest)}:
        raise ModelFileError(f"{path} is damaged: its content does not match its digest; fetch or make it again.")
    return rest


def _digest(tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> str:
    """Compute the digest of tensors and metadata."""
    described = {}
    for name, tensor in tensors.items():
        stored = little_endian(name, tensor)
        content = hashlib.sha256(stored.reshape(-1).view(np.uint8).data).hexdigest()
        described[name] = [DTYPE_NAMES[stored.dtype], list(stored.shape), content]
    text = json.dumps({"metadata": dict(metadata), "tensors": described}, sort_keys=True, separators=(",", ":"))
    return ALGORITHM + hashlib.sha256(text.encode()).hexdigest()


def digest_of_values(values: Iterable[Any]) -> str:
    """Compute 32 hex digits that tell JSON values from others: by them a run knows its texts again, wherever they are."""
    digest = hashlib.blake2b(digest_size=16)
    for value in values:
        digest.update(json.dumps(value).encode())
    return digest.hexdigest()
