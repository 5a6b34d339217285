"""The host's way of images to the devices, as `tf.data.Dataset`s whose stages stand in order.

Training: steps → which images and crops (NumPy, a pure function of the step) → chunks of a batch →
read, decode and crop (OpenCV, in parallel, in order) → batches → ahead of the step. Evaluation:
rows → chunks → Pillow's crop of each image → batches → ahead of the network. Images are worked on
inside `numpy_function`, many a call: what is slow in tf.data is handing images around one by one.
"""

import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int, UInt8

from big_ssl import processes
from big_ssl.augment.crops import Crop, crop_boxes
from big_ssl.data import views
from big_ssl.data.buffers import UnderWay, aligned
from big_ssl.data.image_files import JPEG
from big_ssl.data.images import ImageTable, decode, encoded, evaluation_image
from big_ssl.data.sampler import Indices, Sampler
from big_ssl.host_tensorflow import import_tensorflow

_AHEAD = 2  # batches beyond the one that is waited for
_AT_ONCE = 32  # examples of a call at most: more wait for each other, fewer cost more calls
_ITERATORS = 8  # of a dataset at the same time

_FAILED = 'failed'  # of an element of `arrays_of`: which of `raised` kept a chunk from being loaded

Arrays = dict[str, np.ndarray]


class Plan(NamedTuple):
    """What is to be read and cropped.

    Attributes:
      images: rows of the manifest.
      ratio: at which each is decoded.
      box: y, x, height, width in pixels of the reduced image as it is stored.
    """

    images: Int[np.ndarray, 'b v']
    ratio: Int[np.ndarray, 'b v']
    box: Int[np.ndarray, 'b v 4']


def training_batches(
    table: ImageTable,
    sampler: Sampler,
    steps: range,
    part: slice,
    *,
    size: int,
    crop: Crop,
    by_image: Mapping[str, np.ndarray] | None = None,
    raised: list[Exception] | None = None,
) -> Any:
    """The `tf.data.Dataset` of a host's part of each step's batch.

    Its `element_spec`, with b examples of v views in this part of a global batch of n:

      views: uint8 [b, v, size, size, c], c being 1 or 3
      examples: uint32 [b], number of the example since the start of training
      groups: int32 [n], of the whole batch: examples of one patient have one number
      NAME: [b, ...] for each fact of `by_image`, that of the example's first view

    An element is a pure function of its step, so a later start of `steps` is a resume, and the
    parts of several hosts make the same batch. A `map` behind it may change anything but the number
    and the order of the examples; the training step takes `views` of this shape and adds colour,
    blur and flips on the device.

    Args:
      table: headers of the images that the sampler draws from.
      sampler: decides images and crops.
      steps: consecutive steps.
      part: this host's examples of the global batch.
      size: side of a view in pixels.
      crop: which boxes become views.
      by_image: facts of each row of the manifest, by name.
      raised: where `arrays_of` finds what went wrong; None lets TensorFlow raise it.
    """
    tf = import_tensorflow()
    facts = by_image or {}
    examples = len(range(sampler.batch_size)[part])

    def plan(step: np.int64) -> Arrays:
        whole = sampler.batch(int(step))
        mine = whole[part]
        return {
            'examples': mine.examples.astype(np.uint32),
            **{name: values[mine.images[:, 0]] for name, values in facts.items()},
            **planned(table, sampler, mine, size, crop)._asdict(),
            'groups': whole.groups.astype(np.int32),
        }

    def load(out: UInt8[np.ndarray, 'k v s s c'], *asked: np.ndarray) -> None:
        _load(table, Plan(*asked), out)

    dataset = tf.data.Dataset.range(steps.start, steps.stop)
    dataset = dataset.map(_by_numpy(tf, plan, np.int64(steps.start)))
    shape = (examples, sampler.views, size, size, table.channels)
    return _with_images(tf, dataset, 'views', shape, load, Plan._fields, raised)


def evaluation_batches(
    table: ImageTable,
    rows: Int[np.ndarray, 'batches b'],
    *,
    size: int,
    proportion: float,
    raised: list[Exception] | None = None,
) -> Any:
    """The `tf.data.Dataset` of evaluation crops: `images` uint8 [b, size, size, c] for each batch.

    See `images.evaluation_image`: Pillow's pixels, as whoever is given the model will make them.
    `raised` is as in `training_batches`.
    """
    tf = import_tensorflow()

    def load(out: UInt8[np.ndarray, 'k s s c'], some: Int[np.ndarray, ' k']) -> None:
        _evaluated(table, size, proportion, some, out)

    dataset = tf.data.Dataset.from_tensor_slices({'rows': rows})
    shape = (rows.shape[1], size, size, table.channels)
    return _with_images(tf, dataset, 'images', shape, load, ('rows',), raised)


def evaluation_images(
    table: ImageTable,
    rows: Int[np.ndarray, ' n'],
    *,
    batch_size: int,
    size: int,
    proportion: float,
) -> Any:
    """The same with the `rows` beside the `images`, in a last batch that is not filled up."""
    tf = import_tensorflow()

    def load(some: Int[np.ndarray, ' k']) -> UInt8[np.ndarray, 'k s s c']:
        out = aligned((len(some), size, size, table.channels))
        _evaluated(table, size, proportion, some, out)
        return out

    def loaded(some: Any) -> dict[str, Any]:
        images = tf.numpy_function(load, [some], tf.uint8)
        return {
            'rows': some,
            'images': tf.ensure_shape(images, (None, size, size, table.channels)),
        }

    dataset = tf.data.Dataset.from_tensor_slices(rows.astype(np.int64)).batch(batch_size)
    return dataset.map(loaded, num_parallel_calls=processes.usable_cores()).prefetch(_AHEAD)


def _evaluated(
    table: ImageTable,
    size: int,
    proportion: float,
    rows: Int[np.ndarray, ' k'],
    out: UInt8[np.ndarray, 'k s s c'],
) -> None:
    """Fills `out`; each image once, though the last batch of a run is filled up with one."""
    crops = {
        row: evaluation_image(table, row, size=size, proportion=proportion)
        for row in dict.fromkeys(rows.tolist())
    }
    for place, row in enumerate(rows.tolist()):
        out[place] = crops[row]


def arrays_of(dataset: Any, raised: list[Exception]) -> Iterator[Any]:
    """The elements of a dataset as NumPy arrays, which share TensorFlow's memory.

    They are waited for in Python: in TensorFlow's `next` no signal would be heard. Its threads end
    before the process does, wherever this is left.

    Args:
      raised: the list that the dataset was made with.

    Raises:
      Exception: what reading an image raised (InputError: it does not decode), where the batch
        that it is in would have come.
    """
    return _Arrays(dataset, raised)


class _Arrays(Iterator[Any]):
    def __init__(self, dataset: Any, raised: list[Exception]) -> None:
        self._raised = raised
        self._elements = [dataset.as_numpy_iterator()]
        self._thread = ThreadPoolExecutor(1, 'batches')
        self.close = weakref.finalize(self, _end, self._thread, self._elements)

    def __next__(self) -> Any:
        if not self._elements:
            raise StopIteration
        element = self._thread.submit(next, self._elements[0], None).result()
        if element is None:
            self.close()
            raise StopIteration
        failed = element.pop(_FAILED)
        if failed.max() >= 0:
            self.close()
            raise self._raised[failed[failed >= 0][0]]
        return element


def _end(thread: ThreadPoolExecutor, elements: list[Any]) -> None:
    thread.shutdown(cancel_futures=True)
    elements.clear()


def planned(
    table: ImageTable,
    sampler: Sampler,
    batch: Indices,
    size: int,
    crop: Crop,
) -> Plan:
    """Which images, boxes and ratios a batch asks for.

    An image is decoded at one ratio for all views of an example. Arguments as in
    `training_batches`.
    """
    height, width = np.moveaxis(table.sizes[batch.images], -1, 0)
    boxes = crop_boxes(sampler.crops(batch), height, width, crop)
    boxes = _as_stored(boxes, height, width, table.orientations[batch.images])
    shorter = boxes[..., 2:].min(axis=-1)
    ratio = np.ones_like(shorter)
    for candidate in views.JPEG_RATIOS[1:]:
        ratio[(table.formats[batch.images] == JPEG) & (shorter >= candidate * size)] = candidate
    same = batch.images[:, :, None] == batch.images[:, None, :]
    ratio = np.where(same, ratio[:, None, :], views.JPEG_RATIOS[-1]).min(axis=-1)
    start = boxes[..., :2] // ratio[..., None]
    stop = -((boxes[..., :2] + boxes[..., 2:]) // -ratio[..., None])
    return Plan(batch.images, ratio, np.concatenate([start, stop - start], axis=-1))


def _as_stored(
    boxes: Int[np.ndarray, 'b v 4'],
    height: Int[np.ndarray, 'b v'],
    width: Int[np.ndarray, 'b v'],
    turn: UInt8[np.ndarray, 'b v'],
) -> Int[np.ndarray, 'b v 4']:
    """Boxes of upright images as boxes of what the files hold."""
    y, x, rows, columns = np.moveaxis(boxes, -1, 0)
    y = np.where(np.isin(turn, views.UPSIDE_DOWN), height - y - rows, y)
    x = np.where(np.isin(turn, views.MIRRORED), width - x - columns, x)
    upright = np.stack([y, x, rows, columns], axis=-1)
    return np.where((turn > 4)[..., None], upright[..., [1, 0, 3, 2]], upright)


def _load(table: ImageTable, plan: Plan, out: UInt8[np.ndarray, 'b v s s c']) -> None:
    """Fills `out` for some examples; each image is read and decoded once an example."""
    rows = np.unique(plan.images)
    data = dict(zip(rows.tolist(), encoded(table, rows)))
    for example, rows_of in enumerate(plan.images.tolist()):
        for row in dict.fromkeys(rows_of):
            cropped = [view for view, its_row in enumerate(rows_of) if its_row == row]
            pixels = _decoded(table, row, data[row], int(plan.ratio[example, cropped[0]]))
            turn = int(table.orientations[row])
            for view in cropped:
                views.crop(pixels, plan.box[example, view], turn, out[example, view])


def _decoded(table: ImageTable, row: int, data: bytes, ratio: int) -> np.ndarray:
    """Where an image does not decode, Pillow's words come first: OpenCV has none."""
    kind = int(table.formats[row])
    try:
        return views.decode(data, kind, table.channels, ratio=ratio, window=table.window)
    except ValueError as error:
        decode(table, row)
        raise table.error(row, error) from None


def _chunks(examples: int) -> int:
    """How many equal parts a batch is loaded in: enough for all cores, of `_AT_ONCE` at most.

    Where a number has no such divisor the nearest one is taken, the whole batch if need be.
    """
    wanted = min(max(examples // processes.usable_cores(), 1), _AT_ONCE)
    sizes = np.array([size for size in range(1, examples + 1) if examples % size == 0])
    return examples // int(sizes[np.abs(np.log(sizes / wanted)).argmin()])


def _by_numpy(tf: Any, function: Callable[[np.int64], Arrays], like: np.int64) -> Callable:
    """A function of a step as a stage of a dataset, whose shapes and dtypes are those of `like`."""
    found = function(like)

    def flat(step: np.int64) -> list[np.ndarray]:
        return list(function(step).values())

    def stage(step: Any) -> dict[str, Any]:
        values = tf.numpy_function(flat, [step], [x.dtype for x in found.values()])
        return {
            name: tf.ensure_shape(value, x.shape) for (name, x), value in zip(found.items(), values)
        }

    return stage


def _with_images(
    tf: Any,
    dataset: Any,
    name: str,
    shape: tuple[int, ...],
    load: Callable[..., None],
    asked: Sequence[str],
    raised: list[Exception] | None,
) -> Any:
    """A dataset of what batches ask for, with their images, some batches ahead.

    Parts of a batch are loaded in parallel, each straight into its place in the batch. TensorFlow's
    tuning of itself is off. Eight iterators may go over the dataset at the same time.

    Args:
      name: of the images in an element.
      shape: of a batch of them.
      load: fills the images of some examples, given an array of them and what they ask for.
      asked: the arrays [b, ...] of an element that say so; they are left out.
      raised: what `load` raises is kept there, and `_FAILED` says where: TensorFlow would log its
        words with a traceback, and raise something else. -1 is nothing.
    """
    at_once = processes.usable_cores() + 1  # one waits for Python's lock, or for its place in order
    count = _chunks(shape[0])
    under_way = UnderWay(shape, most=_ITERATORS * (at_once // count + 4))

    def begin() -> Int[np.ndarray, 'count 2']:
        number = under_way.begin()
        return np.array([(number, chunk) for chunk in range(count)])

    def fill(place: Int[np.ndarray, ' 2'], *plan: np.ndarray) -> Int[np.ndarray, ' 1']:
        number, chunk = place.tolist()
        out = np.split(under_way[number], count)[chunk]
        return np.array([_noted(lambda: load(out, *plan), raised)])

    def finish(places: Int[np.ndarray, 'count 2']) -> UInt8[np.ndarray, '...']:
        return under_way.finish(int(places[0, 0]))

    def in_chunks(plan: dict[str, Any]) -> Any:
        places = tf.ensure_shape(tf.numpy_function(begin, [], tf.int64), [count, 2])
        parts = {key: tf.reshape(x, [count, -1, *x.shape[1:]]) for key, x in plan.items()}
        return tf.data.Dataset.from_tensor_slices(parts | {'place': places})

    def filled(chunk: dict[str, Any]) -> dict[str, Any]:
        plan = [chunk['place'], *(chunk.pop(key) for key in asked)]
        failed = tf.ensure_shape(tf.numpy_function(fill, plan, tf.int64), [1])
        return chunk | {_FAILED: failed}

    def joined(chunks: dict[str, Any]) -> dict[str, Any]:
        images = tf.numpy_function(finish, [chunks.pop('place')], tf.uint8)
        if raised is None:
            del chunks[_FAILED]
        facts = {key: tf.reshape(x, [-1, *x.shape[2:]]) for key, x in chunks.items()}
        return {name: tf.ensure_shape(images, shape), **facts}

    dataset = dataset.flat_map(in_chunks).map(filled, num_parallel_calls=at_once)
    dataset = dataset.batch(count, drop_remainder=True).map(joined).prefetch(_AHEAD)
    options = tf.data.Options()
    options.deterministic = True
    options.autotune.enabled = False
    options.threading.private_threadpool_size = at_once + 1
    return dataset.with_options(options)


def _noted(work: Callable[[], None], raised: list[Exception] | None) -> int:
    """Where in `raised` stands what the work raised; -1 where that is nothing."""
    try:
        work()
    except Exception as error:
        if raised is None:
            raise
        raised.append(error)
        return raised.index(error)
    return -1
