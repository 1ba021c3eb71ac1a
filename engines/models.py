"""A recipe's network as PyTorch has it, from its weights by its method."""

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_weights

from engines import methods
from engines import recipe as recipes
from engines.errors import EngineError
from engines.recipe import Recipe


def model_of(recipe: Recipe) -> torch.nn.Module:
    """The taught network, on the CPU.

    Raises:
        EngineError: the weights do not fit.
    """
    manifest = recipe.manifest
    method = methods.load(manifest.method)
    model = method.build(len(manifest.channels), methods.stored_settings(method, manifest.settings))
    try:
        model.load_state_dict(load_weights(recipe.read(recipes.WEIGHTS)))
    except (SafetensorError, RuntimeError, KeyError) as error:
        what = str(error).splitlines()[0]
        raise EngineError(f"{recipe.path}: its weights do not fit {manifest.method}: {what}; teach again") from error
    return model.eval()
