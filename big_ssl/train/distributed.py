"""One job on one or many processes: joining them, and stopping all of them at the same step."""

import os
import signal
import socket

import jax
from jax.experimental import multihost_utils

HEARTBEAT_SECONDS = 30
_NO_HEARTBEAT = 10**8  # seconds: nobody waits for a job of one process, which may sleep for days


def start() -> None:
    """Joins the processes of the job; call it before anything touches a device.

    TPU pods, Slurm, Open MPI and Kubernetes are detected by JAX. Elsewhere the variables
    JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID say who takes part. On a plain
    workstation a service of one process takes their place, for without one a SIGTERM just kills.
    """
    if jax.distributed.is_initialized():
        return
    count, number = (os.environ.get(f'JAX_{key}') for key in ('NUM_PROCESSES', 'PROCESS_ID'))
    try:
        jax.distributed.initialize(
            num_processes=int(count) if count else None,
            process_id=int(number) if number else None,
            heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
        )
    except ValueError as error:
        if 'coordinator_address should be defined' not in str(error):
            raise
        with socket.socket() as free:
            free.bind(('localhost', 0))
            port = free.getsockname()[1]
        jax.config.update('jax_cpu_collectives_implementation', None)  # nobody to talk to
        jax.distributed.initialize(
            f'localhost:{port}',
            num_processes=1,
            process_id=0,
            heartbeat_timeout_seconds=_NO_HEARTBEAT,
        )
    signal.signal(signal.SIGINT, lambda *_: os.kill(os.getpid(), signal.SIGTERM))


class StopRequest:
    """Asks whether the job was told to stop (SIGTERM, or Ctrl-C) and every process has heard of it.

    All processes must ask equally often and at the same places: the answer turns true on all of
    them at the same call, and stays true.
    """

    def __init__(self) -> None:
        self._calls = 0
        self._stopping = False

    def __call__(self) -> bool:
        self._calls += 1
        self._stopping |= multihost_utils.reached_preemption_sync_point(self._calls)
        return self._stopping
