"""Public data sets by name."""

from big_ssl.data.sources import (
    cbis_ddsm,
    chestxray14,
    chexpert,
    eyepacs,
    ham10000,
    imagenet,
    isic2019,
    mimic_cxr,
    pad_ufes_20,
    padchest,
    scin,
)
from big_ssl.data.sources.published import PublishedSet

SOURCES: dict[str, PublishedSet] = {
    module.SOURCE.name: module.SOURCE
    for module in (
        scin,
        ham10000,
        isic2019,
        pad_ufes_20,
        chexpert,
        chestxray14,
        mimic_cxr,
        padchest,
        eyepacs,
        cbis_ddsm,
        imagenet,
    )
}
