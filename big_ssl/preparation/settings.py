"""What `big_ssl.prepare` is asked to do."""

import dataclasses
from collections.abc import Mapping

from big_ssl.data import splits
from big_ssl.data.manifest import OWN_NAMES
from big_ssl.preparation.pictures import Reading

FAIL, SKIP, KEEP, DROP = 'fail', 'skip', 'keep', 'drop'


@dataclasses.dataclass(frozen=True)
class Settings:
    """Everything that what is written depends on.

    Attributes:
      out: folder of the record set, local or remote.
      manifest: path of a table of images; or
      source, raw: name of a public data set and the folder that it lies in.
      image_root: what relative paths of the manifest are relative to; default its folder.
      columns: our name → the manifest's own.
      keep_columns: further columns that are carried along; None: all but those whose names say that
        they identify a person.
      reading: how source files are read.
      on_bad: 'fail', or 'skip' images that cannot be used.
      duplicates: images of two splits that are one picture: 'fail', 'keep', or 'drop' one of them.
      shares: of train, val and test, where the table has no splits.
      split_seed: of these splits.
      splits_from: an earlier record set, whose patients keep their splits.
      hash_ids: ids and paths are replaced by salted hashes.
      salt_file: holds the salt; default beside `out`.
      shard_bytes: of source files in a shard.
    """

    out: str
    manifest: str = ''
    source: str = ''
    raw: str = ''
    image_root: str = ''
    columns: Mapping[str, str] = dataclasses.field(default_factory=OWN_NAMES.copy)
    keep_columns: tuple[str, ...] | None = None
    reading: Reading = Reading()
    on_bad: str = FAIL
    duplicates: str = FAIL
    shares: tuple[float, ...] = splits.SHARES
    split_seed: int = 0
    splits_from: str = ''
    hash_ids: bool = False
    salt_file: str = ''
    shard_bytes: int = 128 * 2**20
