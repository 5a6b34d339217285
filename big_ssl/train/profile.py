"""What a device is doing: a profile of a few steps for TensorBoard, and the memory in use."""

import logging

import jax
from etils import epath

log = logging.getLogger(__name__)

_AFTER = 5  # steps that are not profiled: compiling, and filling of queues


class Profile:
    """Profiles `steps` steps of process 0, from the sixth of this start on.

    TensorBoard's profile plug-in (`pip install tensorboard-plugin-profile`) shows it.

    Args:
      steps: 0 profiles none.
      first: the step that the run goes on from.
      folder: where `plugins/profile` is made; None profiles none.
    """

    def __init__(self, steps: int, first: int, folder: epath.Path | None) -> None:
        self._folder = folder if steps else None
        self._begin, self._end = first + _AFTER, first + _AFTER + steps
        self._running = False

    def trained(self, step: int, result: jax.Array) -> None:
        """Takes the number of a step that was begun, and something that it computes."""
        if self._folder is None or step not in (self._begin, self._end):
            return
        jax.block_until_ready(result)
        if step == self._begin:
            jax.profiler.start_trace(str(self._folder))
            self._running = True
        else:
            self.close()

    def close(self) -> None:
        if self._running:
            jax.profiler.stop_trace()
            self._running = False
            log.info('profile of some steps: tensorboard --logdir=WORKDIR, tab PROFILE')


def device_memory() -> dict[str, float]:
    """The peak of this process's first device as `device_memory_gib`; nothing where not known."""
    stats = jax.local_devices()[0].memory_stats() or {}
    peak = stats.get('peak_bytes_in_use')
    return {} if peak is None else {'device_memory_gib': peak / 2**30}
