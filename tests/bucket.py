"""gs:// without Google: a folder for etils.epath, the same over HTTP for tensorstore and orbax."""

import contextlib
import functools
import http.server
import json
import threading
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

from etils.epath import backend as backends
from etils.epath import gpath

_CALLS = ('open', 'exists', 'isdir', 'listdir', 'glob', 'walk', 'makedirs', 'mkdir', 'rmtree',
          'remove', 'stat', 'rename', 'replace', 'copy')  # fmt: skip
IN_A_PROGRAM = 'from tests import bucket; bucket.install({root!r})\n'


def backend(root: Path) -> backends.Backend:
    """epath's operations on gs://BUCKET/NAME, done at root/BUCKET/NAME; nothing can be appended."""

    class Bucket(type(backends.os_backend)):
        pass

    def here(path: object) -> str:
        text = str(path)
        return f'{root}/{text.removeprefix("gs://")}' if text.startswith('gs://') else text

    def there(found: object) -> object:
        return [str(each).replace(f'{root}/', 'gs://', 1) for each in found]

    for name in _CALLS:
        theirs = getattr(backends.os_backend, name)

        @functools.wraps(theirs)
        def call(self, *paths, name=name, theirs=theirs, **options):
            if name == 'open' and 'a' in paths[1]:
                raise AssertionError(f'{paths[0]}: an object cannot be appended to')
            if name == 'open' and 'w' in paths[1]:
                Path(here(paths[0])).parent.mkdir(parents=True, exist_ok=True)
            found = theirs(*map(here, paths), **options)
            return there(found) if name == 'glob' else found

        setattr(Bucket, name, call)
    return Bucket()


def backend_of_paths(root: Path) -> property:
    """What takes the place of epath's `_backend`: gs:// is that folder."""
    made, theirs = backend(root), gpath._GPath._backend.fget
    return property(lambda path: made if path._uri_scheme == 'gs' else theirs(path))


def install(root: str) -> None:
    """Makes gs:// that folder, for the rest of this process."""
    gpath._GPath._backend = backend_of_paths(Path(root))


@contextlib.contextmanager
def served(root: Path) -> Iterator[dict[str, str]]:
    """The environment of programs whose tensorstore reads and writes that folder by JSON and HTTP.

    https://cloud.google.com/storage/docs/json_api: media of objects, lists, deletions, and writing
    on condition of a generation, which here is the file's time of change.
    """
    handler = functools.partial(_Handler, root, threading.Lock())
    with http.server.ThreadingHTTPServer(('localhost', 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f'localhost:{server.server_port}'
        yield {
            'TENSORSTORE_GCS_HTTP_URL': f'http://{address}',
            'STORAGE_EMULATOR_HOST': f'http://{address}',  # google-cloud-storage, asked by orbax
            'GCE_METADATA_ROOT': address,
            'GOOGLE_APPLICATION_CREDENTIALS': '',
        }
        server.shutdown()


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'

    def __init__(self, root: Path, lock: threading.Lock, *args: object) -> None:
        self._root, self._lock = root, lock
        super().__init__(*args)

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:  # noqa: N802
        bucket, name, query = self._asked()
        if bucket is None:
            self._answer(404)
        elif name is None:
            self._answer(200, self._list(bucket, query))
        elif not (file := self._root / bucket / name).is_file():
            self._answer(404)
        else:
            with self._lock:
                data, generation = file.read_bytes(), _generation(file)
            if query.get('ifGenerationNotMatch') == generation:
                self._answer(304)
            elif query.get('alt') != 'media':
                self._answer(200, _about(name, data, generation))
            else:
                self._media(data, generation)

    def do_POST(self) -> None:  # noqa: N802
        bucket, _, query = self._asked()
        data = self.rfile.read(int(self.headers['Content-Length']))
        file = self._root / bucket / query['name']
        with self._lock:
            if not (refused := self._fits(file, query)):
                file.parent.mkdir(parents=True, exist_ok=True)
                part = file.with_name(f'.{file.name}.part')
                part.write_bytes(data)
                part.replace(file)
            self._answer(refused or 200, _about(query['name'], data, _generation(file)))

    def do_DELETE(self) -> None:  # noqa: N802
        bucket, name, query = self._asked()
        file = self._root / bucket / name
        with self._lock:
            code = self._fits(file, query) or (204 if file.is_file() else 404)
            if code == 204:
                file.unlink()
        self._answer(code)

    def _fits(self, file: Path, query: dict[str, str]) -> int:
        """412 where a condition on the object's generation does not hold, else 0."""
        wanted = query.get('ifGenerationMatch')
        return 412 if wanted not in (None, _generation(file)) else 0

    def _asked(self) -> tuple[str | None, str | None, dict[str, str]]:
        url = urllib.parse.urlsplit(self.path)
        query = {key: values[0] for key, values in urllib.parse.parse_qs(url.query).items()}
        parts = url.path.split('/b/', 1)
        if len(parts) < 2:
            return None, None, query
        bucket, _, rest = parts[1].partition('/o')
        return bucket, urllib.parse.unquote(rest.removeprefix('/')) or None, query

    def _list(self, bucket: str, query: dict[str, str]) -> dict:
        folder = self._root / bucket
        names = sorted(
            str(file.relative_to(folder)) for file in folder.rglob('*') if file.is_file()
        )
        low, high = query.get('startOffset', ''), query.get('endOffset', '\U0010ffff')
        prefix = query.get('prefix', '')
        found = [name for name in names if low <= name < high and name.startswith(prefix)]
        return {'name': bucket, 'items': [{'name': name} for name in found]}

    def _media(self, data: bytes, generation: str) -> None:
        wanted, total = self.headers.get('Range'), len(data)
        if wanted:
            first, _, last = wanted.removeprefix('bytes=').partition('-')
            start = int(first) if first else total - int(last)
            stop = int(last) + 1 if first and last else total
            data = data[start:stop]
        self.send_response(206 if wanted else 200)
        self.send_header('Content-Length', str(len(data)))
        self.send_header('Content-Type', 'application/octet-stream')
        self.send_header('x-goog-generation', generation)
        if wanted:
            self.send_header('Content-Range', f'bytes {start}-{start + len(data) - 1}/{total}')
        self.end_headers()
        self.wfile.write(data)

    def _answer(self, code: int, content: dict | None = None) -> None:
        body = b'' if content is None else json.dumps(content).encode()
        self.send_response(code)
        self.send_header('Content-Length', str(len(body)))
        self.send_header('Content-Type', 'application/json')
        self.end_headers()
        self.wfile.write(body)


def _generation(file: Path) -> str:
    return str(file.stat().st_mtime_ns) if file.is_file() else '0'


def _about(name: str, data: bytes, generation: str) -> dict:
    return {'name': name, 'size': str(len(data)), 'generation': generation}
