"""An estimate in words for a person, and as plain data for a program."""

import dataclasses
from typing import Any

from ml_collections import ConfigDict

from big_ssl import config as config_lib
from big_ssl.planning.estimate import Estimate
from big_ssl.planning.topology import Chip
from big_ssl.run_keys import PRETRAINING

MIB, GIB = 2**20, 2**30


@dataclasses.dataclass(frozen=True)
class Plan:
    """What was asked and what was found.

    Attributes:
      config: settled.
      topology: the name of the slice, or 'local'.
      kind: of device, as JAX names it.
      devices: how many.
      chips: how many.
      chip: None for devices of this machine.
      asked: at the config's batch size.
      largest: that fits; None if none does.
      searched: whether it was looked for.
    """

    config: ConfigDict
    topology: str
    kind: str
    devices: int
    chips: int
    chip: Chip | None
    asked: Estimate
    largest: Estimate | None
    searched: bool


def lines(plan: Plan) -> list[str]:
    """For a terminal."""
    config, asked = plan.config, plan.asked
    network = config_lib.backbone_of(config).title(config.model)
    what = f'{network} at {config.image_size} px'
    each = asked.batch_size // plan.devices
    views = f', {config.views} views' if config.task == PRETRAINING else ''
    verdict = 'FITS' if asked.fits else 'DOES NOT FIT'
    there = f' of {asked.available / GIB:.2f}' if asked.available else ''
    out = [
        f'{what}, {config.task}, batch {asked.batch_size} ({each} a device{views}), '
        f'remat={config.compute.remat}, scan_blocks={config.compute.scan_blocks}',
        f'on {plan.topology}: {plan.chips} chips, {plan.devices} devices ({plan.kind})',
        '',
        f'memory a device     {asked.needed / GIB:9.2f}{there} GiB: {verdict}',
    ]
    if asked.refusal:
        return [*out, asked.refusal]
    if asked.memory:
        parts = dataclasses.asdict(asked.memory).items()
        out += [f'  {name:18s}{size / GIB:9.3f}' for name, size in parts]
    out += _work(plan)
    out.append(f'compiled in         {asked.compile_seconds:9.0f} s on this machine')
    return out + _largest(plan)


def _work(plan: Plan) -> list[str]:
    asked, chip = plan.asked, plan.chip
    at_peak = f', {1e3 * asked.flops / plan.chips / chip.flops:.1f} ms at the peak' if chip else ''
    out = [f'arithmetic a step   {asked.flops / 1e12:9.2f} TFLOP{at_peak}']
    if asked.collectives is None or plan.devices == 1:
        return out
    found = asked.collectives
    kinds = sorted(found.count)
    for kind in kinds:
        size = found.payload[kind] / MIB
        out.append(f'{kind:20s}{found.count[kind]:9d} a step, {size:.1f} MiB of arrays')
    sent = f', {1e3 * found.sent / chip.link_rate:.1f} ms over one link' if chip else ''
    more = '' if found.complete else ' or more (a loop does not say how often it runs)'
    out.append(f'sent by a device    {found.sent / MIB:9.1f} MiB a step{more}{sent}')
    return out


def _largest(plan: Plan) -> list[str]:
    if not plan.searched:
        return []
    if plan.largest is None:
        known = 'none was found to fit' if plan.asked.available else 'nobody says how much is there'
        return [f'largest batch       {known}', *_advice(plan.config)]
    size = plan.largest.batch_size
    out = [
        f'largest batch       {size:9d} that fits ({size // plan.devices} a device, '
        f'{plan.largest.needed / GIB:.2f} GiB)'
    ]
    return out if plan.asked.fits else out + _advice(plan.config)


def _advice(config: ConfigDict) -> list[str]:
    """Settings that need less memory and are not used yet."""
    more = []
    if config.compute.remat != 'blocks':
        more.append('--config.compute.remat=blocks')
    if config.compute.shard != 'all':
        more.append('--config.compute.shard=all')
    more.append(f'--config.chunks={2 * config.chunks}')
    return [f'for more room: {", ".join(more)}, smaller images, more chips']


def data(plan: Plan) -> dict[str, Any]:
    """For JSON."""
    found = dataclasses.asdict(plan)
    for name in ('asked', 'largest'):
        estimate = getattr(plan, name)
        if estimate is not None:
            found[name] |= {'fits': estimate.fits}
    del found['searched']
    return found | {'config': plan.config.to_dict()}
