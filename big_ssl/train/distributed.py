"""One job on one or many processes: joining them, stopping at one step, and ending together."""

import ctypes
import os
import re
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable

import jax
import numpy as np
from jax.experimental import multihost_utils

from big_ssl.errors import FAILED, PREEMPTED

HEARTBEAT_SECONDS = 20
_GRACE = 3.0  # seconds in which a process that has something to say itself can say it
_AGAIN = 'run the same command again to go on'
_OTHERS_GONE = re.compile(
    'gloo|nccl|coordination|heartbeat|unavailable|connection|barrier|preempt', re.IGNORECASE
)
_HANDLERS: list[object] = []  # of C, which must stay alive as long as the process
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


def name() -> str:
    """Which process of the job this is, and where, or '' where it is the only one."""
    if jax.process_count() == 1:
        return ''
    return f'[{jax.process_index()} of {jax.process_count()}, {socket.gethostname()}] '


def largest(value: float) -> float:
    """The largest of what the processes have; all must ask."""
    if jax.process_count() == 1:
        return value
    return float(multihost_utils.process_allgather(np.array(value, np.float32)).max())


def run(work: Callable[[], None], exit_code: Callable[[Callable[[], None]], int]) -> None:
    """Does this process's part of the job.

    Where there are others, a process that cannot go on ends at once, without the farewell for which
    JAX would wait minutes; the others notice, and end too, with 75.

    Args:
      work: raises as the command line's exit codes say.
      exit_code: does it, says what went wrong, and returns the code.
    """
    if jax.process_count() == 1:
        work()
        return
    _end_with_others()
    try:
        code = exit_code(work)
    except Exception as error:
        if lost_others(error):
            print(f'{_others_gone()}; {_AGAIN}', file=sys.stderr)
            code = PREEMPTED
        else:
            traceback.print_exc()
            code = FAILED
    if code:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def lost_others(error: BaseException) -> bool:
    """Whether JAX raised this, or what it comes from, because other processes have gone."""
    causes = (error, error.__cause__, error.__context__)
    return any(
        isinstance(cause, jax.errors.JaxRuntimeError) and bool(_OTHERS_GONE.search(str(cause)))
        for cause in causes
    )


def _others_gone() -> str:
    number, count = jax.process_index(), jax.process_count()
    return f'process {number} of {count} ends: another process of the job has gone'


def _end_with_others() -> None:
    """Exit code 75 where JAX's own threads would abort the process, as they do when others go."""

    @ctypes.CFUNCTYPE(None, ctypes.c_int)
    def aborted(_: int) -> None:
        time.sleep(_GRACE)
        os.write(2, f'{_others_gone()}; {_AGAIN}\n'.encode())
        os._exit(PREEMPTED)

    ctypes.CDLL(None).signal(signal.SIGABRT, aborted)
    _HANDLERS.append(aborted)


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
