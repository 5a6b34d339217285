"""Files that grow while a run goes on, kept where files can grow and copied whole to a bucket."""

import shutil
import tempfile
import time
from pathlib import Path

from etils import epath

from big_ssl.files import is_remote

_EVERY = 60.0  # seconds between copies that nobody asked for


class Spool:
    """A local folder that becomes a remote one; of a local workdir it is the workdir itself.

    Object stores know whole objects only: nothing can be appended, and each change is a new object.

    Attributes:
      folder: where the files are written.
    """

    def __init__(self, workdir: epath.Path) -> None:
        self._remote = workdir if is_remote(workdir) else None
        self.folder = epath.Path(tempfile.mkdtemp(prefix='big_ssl-')) if self._remote else workdir
        self._copied: dict[str, tuple[int, int]] = {}
        self._last = time.monotonic()

    def rest(self) -> None:
        """Copies what has changed if that was not done in the last minute."""
        if self._remote and time.monotonic() > self._last + _EVERY:
            self.flush()

    def flush(self) -> None:
        """Copies each file that has changed, whole.

        Raises:
          OSError: the bucket cannot be written to.
        """
        if self._remote is None:
            return
        for file in sorted(Path(self.folder).rglob('*')):
            if not file.is_file():
                continue
            name, facts = str(file.relative_to(self.folder)), file.stat()
            if self._copied.get(name) != (seen := (facts.st_size, facts.st_mtime_ns)):
                target = self._remote / name
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(file.read_bytes())
                self._copied[name] = seen
        self._last = time.monotonic()

    def close(self) -> None:
        """A last copy; what is local of a remote workdir is removed."""
        self.flush()
        if self._remote is not None:
            shutil.rmtree(self.folder, ignore_errors=True)
