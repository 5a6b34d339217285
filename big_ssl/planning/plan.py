"""From a config and the name of a topology to what its training step needs there."""

import logging

import jax
from ml_collections import ConfigDict

from big_ssl.planning import estimate as estimate_lib
from big_ssl.planning import topology as topology_lib
from big_ssl.planning.estimate import Estimate
from big_ssl.planning.summary import Plan

log = logging.getLogger(__name__)


def make(
    config: ConfigDict, topology: str, *, search: bool, classes: int = 27, images: int = 0
) -> Plan:
    """Compiles the training step of a config for a topology.

    Args:
      config: settled.
      topology: the name of a TPU slice, or 'local'.
      search: whether to look for the largest batch that fits.
      classes, images: see `program.training_step`.

    Raises:
      InputError: no such topology, or a config without a step that could be compiled for it.
    """
    if topology == topology_lib.LOCAL:
        devices, chip = tuple(jax.devices()), None
        chips = len(devices)
    else:
        found = topology_lib.open_slice(topology)
        devices, chip, chips = found.devices, found.chip, found.chips
    available = estimate_lib.available_memory(devices)

    def at(batch_size: int) -> Estimate:
        own = config.copy_and_resolve_references()
        own.batch_size = batch_size
        return estimate_lib.estimate(
            own, devices, available=available, classes=classes, images=images
        )

    log.info('the training step for %d devices (%s): this takes minutes', len(devices), topology)
    asked = at(config.batch_size)
    unit = len(devices) * config.chunks
    largest = estimate_lib.largest_batch(at, asked, unit) if search else None
    return Plan(
        config=config,
        topology=topology,
        kind=devices[0].device_kind,
        devices=len(devices),
        chips=chips,
        chip=chip,
        asked=asked,
        largest=largest,
        searched=search,
    )
