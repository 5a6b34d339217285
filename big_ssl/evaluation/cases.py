"""From images to cases: one prediction a case, the mean of its images' probabilities."""

import numpy as np
from jaxtyping import Float, Int


def aggregate(
    probabilities: Float[np.ndarray, 'n k'], case_codes: Int[np.ndarray, ' n']
) -> tuple[Int[np.ndarray, ' c'], Float[np.ndarray, 'c k']]:
    """Averages the probabilities of each case's images, in float64.

    The cases come in ascending order of their code, the order of
    `np.unique(case_codes, return_index=True)`, whose index finds each case's label and patient.

    Raises ValueError if the two arrays differ in length.
    """
    if len(probabilities) != len(case_codes):
        raise ValueError(f'{len(probabilities)} predictions but {len(case_codes)} case codes')
    codes, case_of_image, images = np.unique(case_codes, return_inverse=True, return_counts=True)
    sums = np.zeros((len(codes), probabilities.shape[1]))
    np.add.at(sums, case_of_image, probabilities)
    return codes, sums / images[:, None]
