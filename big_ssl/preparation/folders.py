"""Where a record set is while it is made, and how it comes to be where it was asked for."""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

from etils import epath

from big_ssl.data import records
from big_ssl.errors import InputError
from big_ssl.files import is_remote
from big_ssl.preparation.work import clear_scratch, written

REJECTED, DUPLICATES = 'rejected.csv', 'duplicates.csv'
_MADE_FROM = 'made_from'  # a key of `records.ABOUT`, and a file of unfinished work


@dataclasses.dataclass(frozen=True)
class Folders:
    """The folders of one record set.

    Attributes:
      out: the record set.
      work: what is not finished: `scan` of the images, `parts` about the shards that are written.
      set: the record set while it is not complete; `out` itself where it is remote, since a remote
        folder cannot be renamed in one step: there `records.ABOUT`, written last, completes it.
    """

    out: epath.Path
    work: epath.Path
    set: epath.Path

    @classmethod
    def of(cls, out: str) -> 'Folders':
        """Those of a record set at `out`."""
        path = out.rstrip('/')
        work = epath.Path(f'{path}.partial')
        return cls(epath.Path(path), work, epath.Path(path) if is_remote(out) else work / 'set')

    @property
    def scan(self) -> epath.Path:
        return self.work / 'scan'

    @property
    def parts(self) -> epath.Path:
        return self.work / 'parts'

    def beside(self, name: str) -> epath.Path:
        """A file next to `out`."""
        return epath.Path(f'{self.out}.{name}')

    def is_complete(self, identity: dict[str, Any]) -> bool:
        """Whether the record set of this identity is there.

        Raises:
          InputError: something else is.
        """
        if records.is_record_set(str(self.out)):
            found = json.loads((self.out / records.ABOUT).read_text())
            if found[_MADE_FROM] != identity:
                raise InputError(
                    f'{self.out}: holds the records of another table, or of other settings; choose '
                    f'another --out (--splits_from={self.out} keeps its splits)'
                )
            shutil.rmtree(self.work, ignore_errors=True)
            return True
        if self.out.exists() and self.out != self.set:
            raise InputError(f'{self.out}: is there already and is no record set')
        return False

    def make(self) -> None:
        """Makes those of unfinished work.

        Raises:
          InputError: one cannot be made.
        """
        for folder in (self.scan, self.parts, self.set):
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                reason = error.strerror or ' '.join(str(error).split())
                raise InputError(f'{folder}: cannot be used as a folder: {reason}') from None

    def claim(self, identity: dict[str, Any]) -> None:
        """Keeps what was done for the same table and settings; what depends on others is forgotten.

        Args:
          identity: `table` and `settings`, of which `reading` is what a scan depends on.
        """
        file = self.work / f'{_MADE_FROM}.json'
        found = json.loads(file.read_text()) if file.exists() else identity
        if found != identity:
            looked = [(each['table'], each['settings']['reading']) for each in (found, identity)]
            self.forget(scan=looked[0] != looked[1])
        place(file, json.dumps(identity).encode())
        for folder in (self.scan, self.parts, self.set, self.work):
            clear_scratch(str(folder))

    def forget(self, *, scan: bool) -> None:
        """Empties the folders of what is written, and of the scan if asked to."""
        for folder in (self.parts, self.set, *([self.scan] if scan else [])):
            folder.rmtree(missing_ok=True)
        self.make()

    def complete(self, about: dict[str, Any], identity: dict[str, Any]) -> None:
        """Makes the record set appear at `out`, and removes everything else."""
        about = {'format': records.FORMAT, **about, _MADE_FROM: identity}
        place(self.set / records.ABOUT, json.dumps(about, indent=1).encode())
        if self.set != self.out:
            Path(self.set).rename(self.out)
        for name in (REJECTED, DUPLICATES):  # of an earlier attempt
            self.beside(name).unlink(missing_ok=True)
        self.work.rmtree(missing_ok=True)


def place(file: epath.Path, content: bytes) -> None:
    """Writes a file, local or remote, in one step."""
    with written(str(file)) as new:
        new.write_bytes(content)
