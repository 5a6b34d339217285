"""Whose weights a file holds, by the names in it."""

import functools

from big_ssl.errors import InputError
from big_ssl.weights import bit_names, own_names, simclr_names, timm_bit_names, torch_names
from big_ssl.weights.files import File
from big_ssl.weights.match import Match

_EXPLAINED = (
    'none of the names of torchvision and timm (layer1.0.conv1.weight), of SimCLR '
    '(base_model/conv2d/kernel), of BiT (resnet/root_block/standardized_conv2d/kernel) or of '
    'big_ssl (params/encoder/conv_stem/kernel) are in it'
)


def recognise(file: File, prefix: str | None = None) -> Match:
    """The match of the file's names.

    Args:
      prefix: of the names of a network, where the file holds several networks.

    Raises:
      InputError: none is known, or the network is of a kind that is not here.
    """
    families = (
        functools.partial(torch_names.recognise, prefix=prefix),
        functools.partial(simclr_names.recognise, prefix=prefix),
        bit_names.recognise,
        timm_bit_names.recognise,
        own_names.recognise,
    )
    try:
        for family in families:
            if (match := family(file.arrays)) is not None:
                return match
    except ValueError as error:
        raise InputError(f'init_from: {file.path}: {error}') from None
    some = ', '.join(list(file.arrays)[:3])
    raise InputError(f'init_from: {file.path}: {_EXPLAINED}, but {some} …')
