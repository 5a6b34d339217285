"""clu, whose writer of TensorBoard's events imports TensorFlow where it is made, not before.

`clu.metric_writers`, and through it `clu.periodic_actions`, imports TensorFlow for that one writer,
which takes seconds, and does not work where there is no TensorFlow. A module of its own name stands
in for it and imports clu's class when it is called.
"""

import sys
import types
from typing import Any


def _summary_writer(logdir: str) -> Any:
    """`clu.metric_writers.SummaryWriter`; raises ImportError where there is no TensorFlow."""
    from clu.metric_writers.tf.summary_writer import SummaryWriter

    return SummaryWriter(logdir)


def _stand_in() -> None:
    name = 'clu.metric_writers.summary_writer'
    if 'clu.metric_writers' not in sys.modules:
        module = types.ModuleType(name)
        module.SummaryWriter = _summary_writer  # type: ignore[attr-defined]
        sys.modules[name] = module


_stand_in()

from clu import asynclib, metric_writers, periodic_actions, platform, profiler  # noqa: E402

__all__ = ['asynclib', 'metric_writers', 'periodic_actions', 'platform', 'profiler']
