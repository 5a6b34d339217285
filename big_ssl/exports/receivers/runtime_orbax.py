"""Runs the parameters in JAX, by the Flax module in network/."""

import importlib
import json

import jax
import numpy as np
import orbax.checkpoint as ocp


def load(folder):
    """uint8 images [n, size, size, 3] to features or logits [n, k], as a function."""
    made_of = json.loads((folder / 'network.json').read_text(encoding='utf-8'))
    module = getattr(importlib.import_module(made_of['module']), made_of['class'])
    encoder = module(**made_of['fields'])
    tree = ocp.StandardCheckpointer().restore(folder.resolve() / 'parameters')
    variables = {name: part['encoder'] for name, part in tree.items()}
    head = tree['params'].get('classifier')

    @jax.jit
    def run(images):
        features = encoder.apply(variables, images.astype('float32') / 255, train=False)
        return (
            features if head is None else features @ head['dense']['kernel'] + head['dense']['bias']
        )

    return lambda images: np.asarray(run(images))
