"""Whether an error says that a GPU's memory ran out, by the words of either framework."""

_WORDS = (
    'resource_exhausted',
    'out of memory',
    'outofmemory',
    'alloc_failed',  # cuBLAS, cuDNN
    'unable to find an engine',  # PyTorch, when no algorithm's workspace fits
    'failed to determine best',  # XLA's choice of one, likewise
)


def does_not_fit(error: BaseException) -> bool:
    """Whether a smaller batch might help."""
    text = f'{type(error).__name__} {error}'.lower()
    return any(words in text for words in _WORDS)
