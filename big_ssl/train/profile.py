"""What a device is doing: a profile of a few steps for TensorBoard, and the memory in use."""

import logging

import jax
from etils import epath

from big_ssl.train.lazy_clu import periodic_actions, profiler

log = logging.getLogger(__name__)

_AFTER = 5  # steps that are not profiled: compiling, and filling of queues


class Profile(periodic_actions.Profile):
    """Profiles `steps` steps, from the sixth of this start on.

    TensorBoard's profile plug-in (`pip install tensorboard-plugin-profile`) shows it.

    Args:
      steps: one or more.
      first: the step that the run goes on from.
      folder: where `plugins/profile` is made.
    """

    def __init__(self, steps: int, first: int, folder: epath.Path) -> None:
        super().__init__(
            logdir=folder,
            num_profile_steps=steps,
            profile_duration_ms=None,
            first_profile=first + _AFTER,
            every_secs=None,
        )

    def trained(self, step: int, result: jax.Array) -> None:
        """Takes the number of a step that was begun, and something that it computes."""
        if step - self._first_profile in (0, self._num_profile_steps):
            jax.block_until_ready(result)  # whole steps
        self(step)

    def close(self) -> None:
        if self._session_running:
            self._end_session(profiler.stop())

    def _end_session(self, url: str | None) -> None:
        super()._end_session(url)
        log.info('profile of some steps: tensorboard --logdir=WORKDIR, tab PROFILE')


def device_memory() -> dict[str, float]:
    """The peak of this process's first device as `device_memory_gib`; nothing where not known."""
    stats = jax.local_devices()[0].memory_stats() or {}
    peak = stats.get('peak_bytes_in_use')
    return {} if peak is None else {'device_memory_gib': peak / 2**30}
