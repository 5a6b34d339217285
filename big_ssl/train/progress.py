"""What a person sees while training goes on."""

import logging
import sys
from collections.abc import Mapping

import jax
from tqdm import tqdm

from big_ssl.train.lazy_clu import periodic_actions, platform

log = logging.getLogger(__name__)

_IN_FILES_ONLY = {'update_norm', 'param_norm', 'trust_ratio_min', 'trust_ratio_max'}


class Progress(periodic_actions.ReportProgress):
    """Steps a second, time left and values: a bar on a terminal, log lines elsewhere.

    Args:
      total: steps of the run.
      first: the step that the run goes on from.
      every: steps between lines; there is one for the last step too, and none for the first, which
        compiles.
      what: is trained.
    """

    def __init__(self, total: int, first: int, every: int, what: str) -> None:
        super().__init__(num_train_steps=total, every_steps=every, every_secs=None)
        self._what, self._text = what, ''
        on_terminal = sys.stderr.isatty() and jax.process_index() == 0
        self._bar = (
            tqdm(total=total, initial=first, desc=what, unit='step') if on_terminal else None
        )

    def trained(self, step: int, values: Mapping[str, float]) -> None:
        """To be called after every step, with the newest values that there are."""
        self._text = '  '.join(
            f'{name} {value:.4g}' for name, value in values.items() if name not in _IN_FILES_ONLY
        )
        if self._bar is not None:
            self._bar.set_postfix_str(self._text, refresh=False)
            self._bar.update(step - self._bar.n)
        self(step)

    def say(self, text: str) -> None:
        """A line that does not break the bar."""
        if self._bar is not None:
            self._bar.write(text, file=sys.stderr)
        else:
            log.info('%s', text)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()

    def _apply(self, step: int, t: float) -> None:
        """What clu would show on its platform's page of a run is a line of the log here."""

        def show(notes: str) -> None:
            if self._bar is None:
                log.info('%s step %d  %s  %s', self._what, step, notes, self._text)

        platform.work_unit().set_notes = show
        super()._apply(step, t)
