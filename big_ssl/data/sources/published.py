"""What is known of a public data set: where it is had, its terms, and how it is laid out."""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import pandas as pd

LISTED_IN = 'listed_in'  # a column: the file and row in which an image is named, for messages


class Listing(NamedTuple):
    """The images that a data set's own tables name.

    Attributes:
      table: one row an image, all fields strings, '' for "not known". Columns: `image_path`
        (relative to the raw folder, '/' between), `case_id`, `patient_id`, `label`, `LISTED_IN`;
        `split` where the owners publish one; then those worth keeping for subgroups.
      announcements: what a person should be told, one line each.
    """

    table: pd.DataFrame
    announcements: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class PublishedSet:
    """A public data set.

    Attributes:
      name: of `--source`.
      title: its full name, with a reference.
      url: where it is had.
      terms: its licence or agreement.
      layout: what must lie in the raw folder, one path a line.
      case: what one case is.
      read: raw folder → `Listing`; raises `InputError` naming file, row and column.
      multilabel: any number of labels an image, joined by '|'; 'LABEL?' is uncertain.
      negative: of a multi-label set, the label that means none of the others.
    """

    name: str
    title: str
    url: str
    terms: str
    layout: str
    case: str
    read: Callable[[str], Listing]
    multilabel: bool = False
    negative: str = ''
