"""The table of images that a record set is made from, and what of it may be stored."""

import dataclasses
import hashlib
import hmac
import os
import re
import secrets
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from big_ssl.data import manifest as manifest_lib
from big_ssl.data.manifest import Manifest, checked, read_manifest
from big_ssl.data.sources import SOURCES
from big_ssl.data.sources.published import LISTED_IN
from big_ssl.errors import InputError
from big_ssl.preparation.settings import Settings

_IDENTIFYING = frozenset(
    ('name', 'names', 'surname', 'firstname', 'lastname', 'birth', 'birthdate', 'birthday', 'dob',
     'address', 'street', 'phone', 'telephone', 'mobile', 'email', 'mail', 'ssn', 'mrn', 'nhs',
     'accession', 'insurance', 'passport', 'postcode', 'zip')
)  # fmt: skip


def read(settings: Settings) -> tuple[Manifest, tuple[str, ...]]:
    """The checked table, without the columns that identify a person, and what to tell about it.

    Raises:
      InputError: naming file, row and column.
    """
    if settings.source:
        listing = SOURCES[settings.source].read(settings.raw)
        table = listing.table.drop(columns=LISTED_IN)
        folder = settings.raw.rstrip('/') + '/'
        within = listing.table[LISTED_IN].str.removeprefix(folder)
        manifest = checked(
            table,
            settings.raw,
            columns=manifest_lib.OWN_NAMES,
            root=settings.raw,
            folder=settings.raw,
            split_seed=None,
            listed_in=within.to_numpy(object),
        )
        announcements = tuple(line.replace(folder, '') for line in listing.announcements)
    else:
        manifest = read_manifest(
            settings.manifest,
            columns=settings.columns,
            image_root=settings.image_root or None,
            split_seed=None,
        )
        announcements = ()
    further, left_out = _kept(manifest, settings)
    if left_out:
        announcements += (
            'columns left out because their names say that they identify a person: '
            f'{", ".join(left_out)} (--keep_columns=NAME,NAME says what to keep)',
        )
    return dataclasses.replace(manifest, further=further), announcements


def _kept(manifest: Manifest, settings: Settings) -> tuple[pd.DataFrame, list[str]]:
    found = list(manifest.further.columns)
    if settings.keep_columns is not None:
        for name in settings.keep_columns:
            if name not in found:
                known = ', '.join(found) or 'none'
                raise InputError(f'{manifest.path}: no column {name!r}; further columns: {known}')
        return manifest.further[list(settings.keep_columns)], []
    left_out = [name for name in found if _identifies(name)]
    return manifest.further.drop(columns=left_out), left_out


def _identifies(column: str) -> bool:
    words = re.sub(r'([a-z])([A-Z])', r'\1 \2', column)
    return bool(_IDENTIFYING & set(re.split(r'[^a-z]+', words.lower())))


def hasher(settings: Settings) -> Callable[[str, str], str]:
    """(kind, id) → 32 hexadecimal digits of HMAC-SHA-256 under the salt; '' stays ''.

    The salt file is made if it is not there; whoever has it can find an id's hash again.

    Raises:
      InputError: the salt file cannot be read or made, or is too short.
    """
    path = Path(settings.salt_file or f'{settings.out.rstrip("/")}.salt')
    try:
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(file, 'w') as handle:
                handle.write(secrets.token_hex(32) + '\n')
        salt = path.read_bytes().strip()
    except OSError as error:
        raise InputError(f'{path}: cannot hold the salt of --hash_ids: {error}') from None
    if len(salt) < 16:
        raise InputError(f'{path}: a salt has at least 16 characters')

    def hashed(kind: str, name: str) -> str:
        message = f'{kind}\0{name}'.encode()
        return hmac.new(salt, message, hashlib.sha256).hexdigest()[:32] if name else ''

    return hashed


def stored_names(
    manifest: Manifest, hashed: Callable[[str, str], str] | None
) -> dict[str, np.ndarray]:
    """`image_path` (relative to the table), `case_id` and `patient_id` as they are stored."""
    texts = {
        'image_path': np.array(list(manifest.listed_paths()), object),
        'case_id': manifest.case_id[:],
        'patient_id': manifest.patient_id[:],
    }
    if hashed is None:
        return texts
    return {
        name: np.array([hashed(name, text) for text in texts[name].tolist()], object)
        for name in texts
    }
