"""A text model with some of its layers: half the layers, nearly twice the speed.

The layers next to each other in a transformer do similar things, so a model without some of them
still says much the same (Fan et al. 2020, LayerDrop; Sanh et al. 2019, DistilBERT), and says it
again nearly as well once it is taught (``encoders.shipping.distillation``).
"""

from __future__ import annotations

from torch import nn
from transformers import PreTrainedModel

from encoders.errors import EncoderConfigInvalid, ModelNotSupported

_EVERY = "every:"


def layers_of(model: PreTrainedModel) -> nn.ModuleList:
    """Return the layers of a model, whatever its shape calls them.

    Raises:
        ModelNotSupported: there is not exactly one list of as many layers as its configuration has.
    """
    wanted = int(model.config.num_hidden_layers)
    found = [
        module
        for module in model.modules()
        if isinstance(module, nn.ModuleList) and len(module) == wanted
    ]
    if len(found) != 1:
        raise ModelNotSupported(
            f"{model.config.model_type} has {len(found)} lists of {wanted} layers, one is needed: "
            "its layers cannot be cropped"
        )
    return found[0]


def kept_layers(wanted: str, total: int) -> tuple[int, ...]:
    """Return which of ``total`` layers stay: the first N for ``N``, every k-th for ``every:k``.

    Every k-th counts from the end, so that the last layer, whose space is the model's, stays.

    >>> kept_layers("3", 6), kept_layers("every:2", 6), kept_layers("every:3", 7)
    ((0, 1, 2), (1, 3, 5), (0, 3, 6))

    Raises:
        EncoderConfigInvalid: it is neither form, or asks for none or more layers than there are.
    """
    step = wanted.removeprefix(_EVERY)
    number = int(step) if step.isdecimal() else 0
    if not 1 <= number <= total:
        raise EncoderConfigInvalid(
            f"layers to keep are {wanted!r}, must be a number from 1 to {total} (the first so "
            f"many) or every:k with k from 1 to {total}"
        )
    if step == wanted:
        return tuple(range(number))
    return tuple(range(total - 1, -1, -number))[::-1]


def crop(model: PreTrainedModel, kept: tuple[int, ...]) -> None:
    """Leave ``model`` with its layers ``kept``, in place, its configuration with their number."""
    layers = layers_of(model)
    chosen = [layers[place] for place in kept]
    del layers[:]
    layers.extend(chosen)
    types = getattr(model.config, "layer_types", None)
    if types is not None:
        model.config.layer_types = [types[place] for place in kept]
    model.config.num_hidden_layers = len(kept)
