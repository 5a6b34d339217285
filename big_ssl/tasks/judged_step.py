"""Which weights the figures of a run belong to: those of the step that it judged, and no others."""

import json
from typing import Any, NamedTuple

from etils import epath

from big_ssl.errors import InputError
from big_ssl.files import CHECKPOINTS, RESULT


class Judgement(NamedTuple):
    """What a run says of weights that it trained.

    Attributes:
      result: its `result.json`, if it judged them; else nothing.
      why_not: why it says nothing, the beginning of a sentence; '' where there is no `result.json`.
      step: that it judged, if it says so.
    """

    result: dict[str, Any]
    why_not: str = ''
    step: int | None = None


def of_weights(origin: str, step: int | None) -> Judgement:
    """The figures and thresholds that belong to these weights.

    Args:
      origin: WORKDIR or WORKDIR/checkpoints/STEP, as `init_from` takes them.
      step: of the weights that were read from there.

    Raises:
      InputError: `result.json` cannot be read.
    """
    path = workdir_of(origin) / RESULT
    if not path.exists():
        return Judgement({})
    try:
        result = json.loads(path.read_text())
    except ValueError as error:
        raise InputError(f'{path}: cannot be read: {error}') from None
    judged = result.get('trained_on/step')
    if judged == step:
        return Judgement(result, step=judged)
    if judged is None:
        why = f'whether step {step} was judged is not known: {RESULT} names no step'
    else:
        why = f'the checkpoint of step {step} was not judged; the run judged step {judged}'
    return Judgement({}, why, judged)


def workdir_of(origin: str) -> epath.Path:
    """WORKDIR, also of WORKDIR/checkpoints/STEP."""
    path = epath.Path(origin)
    return path.parent.parent if path.parent.name == CHECKPOINTS else path
