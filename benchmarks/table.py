"""What was measured as numbers to compare, and as text."""

from collections.abc import Iterator, Mapping
from typing import Any

from benchmarks import ceilings as ceilings_lib
from benchmarks.timing import summary
from benchmarks.trace import KINDS, UNKNOWN, UNNAMED

GIB = 2**30
TARGET_RATIO, TARGET_AUGMENTATION, TARGET_WAIT = 1.15, 0.05, 0.01
WHAT_THE_FIGURES_ARE = """\
images/s: source images (examples, two views each); median, smallest and largest of the repeats.
network: network, loss and optimiser on float views that lie ready on the device; PyTorch's is the
  same (channels last, autocast bfloat16, torch.compile, LARS). step: big_ssl's whole training step
  from uint8 views, with augmentation. images: a training loop on images that lie on the device;
  drawing and cropping are in its step, and are what it takes longer than step.
FLOP: counted in the traced step, products and convolutions alone; bytes: the compiler's count and
  what cuDNN and cuBLAS are given; what a loop repeats, once.
alone: a part timed by itself. traced: kernels of the profiled step by the name of their last
  operation; what is fused with a normalisation or a convolution counts as that."""

Found = Mapping[str, Any]


def figures(parts: Found, ceilings: Found | None) -> dict[str, Any]:
    """What follows from the parts of one network.

    Args:
      parts: what `measure` gave, by part; those that failed or were not asked for are missing.
      ceilings: of the device.
    """
    out: dict[str, Any] = {}
    for name in ('network', 'rival', 'step', 'images'):
        if name in parts:
            times = summary(parts[name]['step_seconds'])
            batch = parts[name]['batch']
            out[name] = {
                'batch': batch,
                'step_seconds': times,
                'images_per_second': {
                    'median': batch / times['median'],
                    'low': batch / times['high'],
                    'high': batch / times['low'],
                },
                'peak_gib': _gib(parts[name]['peak_bytes']),
                'rematerialised': parts[name].get('rematerialised', 0),
            }
            if ceilings and parts[name].get('bytes'):
                work = parts[name]['flops'], parts[name]['bytes']
                out[name] |= ceilings_lib.shares(*work, times['median'], ceilings)
    if 'rival' in out:
        out['rival']['compiled_by'] = parts['rival']['compiled_by']
    if 'network' in out and 'rival' in out:
        out['times_pytorch'] = _speed(out['network']) / _speed(out['rival'])
    if 'step' in parts:
        whole = _median(out['step'])
        out['alone'] = {
            kind: summary(parts['step'][f'{kind}_seconds'])['median'] / whole
            for kind in ('augmentation', 'loss', 'optimiser')
        }
        if 'network' in out:
            out['step_without_network'] = 1 - _median(out['network']) / whole
    if 'trace' in parts:
        kernels = parts['trace']['kernel_seconds']
        total = sum(kernels.values())
        out['traced'] = {kind: seconds / total for kind, seconds in kernels.items()}
        out['device_busy'] = total / parts['trace']['traced_step_seconds']
    if 'images' in parts:
        wait = sum(parts['images']['input_wait_seconds'])
        out['input_wait'] = wait / sum(parts['images']['step_seconds'])
        if 'step' in out and out['step']['batch'] == out['images']['batch']:
            out['drawing'] = 1 - _median(out['step']) / _median(out['images'])
    return out


def of_network(name: str, found: Found) -> str:
    """The figures of one network, for people."""
    network = found['networks'][name]
    lines = [f'\n{name}, {network["size"]} px, batch {network["batch"]}']
    numbers = figures(network['parts'], found['ceilings'])
    lines += _of_network(numbers, judged=bool(found['graphics_card']))
    lines += [f'  failed: {part}: {why}' for part, why in network['failed'].items()]
    return '\n'.join([*lines, ''])


def of_machine(found: Found) -> str:
    """What the networks were run on, and what the figures are."""
    images = f'  images: {found["images"]}'
    return '\n'.join([*_of_machine(found), images, '', WHAT_THE_FIGURES_ARE])


def _of_machine(found: Found) -> Iterator[str]:
    card = found['graphics_card']
    yield 'device: ' + (found['device'] or 'not known')
    if not card:
        yield '  no GPU by nvidia-smi: nothing below says anything about one'
    else:
        yield '  ' + ', '.join(f'{key} {value}' for key, value in card.items())
    yield '  ' + ', '.join(f'{key} {value}' for key, value in found['versions'].items() if value)
    if ceilings := found['ceilings']:
        yield (
            f'  at most {ceilings["flops_per_second"] / 1e12:.4g} TFLOP/s (bfloat16 product) and '
            f'{ceilings["bytes_per_second"] / 1e9:.4g} GB/s (copy)'
        )


def _of_network(numbers: Found, judged: bool) -> Iterator[str]:
    def against(met: bool, target: object) -> str:
        return f' (target {target}: {"met" if met else "missed"})' if judged else ''

    yield (
        f'  {"":<10}{"images/s":>10}{"smallest":>10}{"largest":>10}{"ms/step":>10}{"peak GiB":>10}'
        f'{"of FLOP/s":>11}{"of bytes/s":>11}'
    )
    for name in ('network', 'rival', 'step', 'images'):
        if name in numbers:
            yield _row('PyTorch' if name == 'rival' else name, numbers[name])
            if again := numbers[name]['rematerialised']:
                yield f'    XLA computes {again} operations twice to save memory: halve --batch'
    if 'times_pytorch' in numbers:
        ratio = numbers['times_pytorch']
        rival = f'  {ratio:.3f} times PyTorch by {numbers["rival"]["compiled_by"]}'
        compiled = not numbers['rival']['compiled_by'].startswith('eager')
        yield rival + (against(ratio >= TARGET_RATIO, TARGET_RATIO) if compiled else '')
    if 'alone' in numbers:
        yield '  alone, of the step: ' + _listed(numbers['alone'])
        if 'step_without_network' in numbers:
            share = numbers['step_without_network']
            yield f'  step less network (augmentation, mostly): {share:.2%} of the step'
        share = numbers['alone']['augmentation']
        met = share <= TARGET_AUGMENTATION
        yield f'  augmentation {share:.2%}' + against(met, f'{TARGET_AUGMENTATION:.0%}')
    if 'traced' in numbers:
        ordered = {k: numbers['traced'][k] for k in (*KINDS, UNNAMED, UNKNOWN)
                   if k in numbers['traced']}  # fmt: skip
        yield '  traced, of all kernels: ' + _listed(ordered)
        yield f'  kernels take {numbers["device_busy"]:.0%} of the traced step'
    if 'input_wait' in numbers:
        share, batch = numbers['input_wait'], numbers['images']['batch']
        yield (
            f'  images, batch {batch}: input wait {share:.2%}'
            + against(share <= TARGET_WAIT, f'{TARGET_WAIT:.0%}')
            + (f', drawing and cropping {numbers["drawing"]:.2%}' if 'drawing' in numbers else '')
        )


def _row(name: str, numbers: Found) -> str:
    speed, peak = numbers['images_per_second'], numbers['peak_gib']
    shares = ('flops_share', 'bytes_share')
    return (
        f'  {name:<10}{speed["median"]:>10.1f}{speed["low"]:>10.1f}{speed["high"]:>10.1f}'
        f'{1e3 * _median(numbers):>10.2f}{"" if peak is None else f"{peak:.2f}":>10}'
        + ''.join(f'{f"{numbers[key]:.1%}" if key in numbers else "":>11}' for key in shares)
    )


def _listed(shares: Mapping[str, float]) -> str:
    return ', '.join(f'{kind} {share:.1%}' for kind, share in shares.items())


def _median(numbers: Found) -> float:
    return numbers['step_seconds']['median']


def _speed(numbers: Found) -> float:
    return numbers['images_per_second']['median']


def _gib(size: float | None) -> float | None:
    return None if size is None else size / GIB
