"""Going through tidy tables, and how figures are written in the tables of a report."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from big_ssl.report.page import Table


def rows(table: pd.DataFrame) -> Iterator[Any]:
    """Named tuples."""
    return table.itertuples(index=False)


def parts(table: pd.DataFrame, columns: str | list[str]) -> Iterator[tuple[Any, pd.DataFrame]]:
    """Value (values) of the columns and the rows that have it, in order of appearance."""
    return iter(table.groupby(columns, sort=False))


def highest(table: pd.DataFrame, column: str = 'value') -> Any:
    """The row with the highest value, a named tuple."""
    return next(rows(table.nlargest(1, column)))


def written(value: float, low: float, high: float, sign: str = '') -> str:
    if np.isnan(value):
        return '–'
    whisker = '' if np.isnan(low) else f' [{low:{sign}.3f},\N{NO-BREAK SPACE}{high:{sign}.3f}]'
    return f'{value:{sign}.3f}{whisker}'.replace('-', '\N{MINUS SIGN}')


def p_value(value: float) -> str:
    if np.isnan(value):
        return '–'
    return '< 0.001' if value < 0.001 else f'{value:.3f}'


def deviation(value: float) -> str:
    return '–' if np.isnan(value) else f'{value:.3f}'


def side_by_side(
    caption: str, table: pd.DataFrame, index: list[str], across: str = 'method'
) -> Table:
    """A row for each value of the index, a column for each of `across`."""
    columns = list(dict.fromkeys(table[across]))
    lines = []
    for key, part in parts(table, index):
        own = {
            row[across]: written(row['value'], row['low'], row['high'])
            for row in part.to_dict('records')
        }
        lines.append([*key, *(own.get(column, '–') for column in columns)])
    return Table(caption, [*index, *columns], lines)
