"""Matrix products of the packed forward pass: oneDNN's prepacked float32 ones where they are
right, repeatable and not slower, else torch's public ones.

Legend: S tokens, I and O the widths of a layer.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Protocol

import torch
from torch.nn import functional

logger = logging.getLogger(__name__)

MIN_PRODUCT_ROWS = 16
"""Products of fewer rows go to other kernels (gemv-like, seen for 1 to 3 rows in two libraries),
whose sums differ in the last bits. So we never ask for fewer."""

_EXPECTED_TOKENS = 1_024
_PROBE_ROWS = (MIN_PRODUCT_ROWS, 17, 61, 128, 257, 512)
_TOLERANCE = 1e-4
_SPEED_SHAPE = (1_536, 384)
"""Speed is the machine's, so it is tried on one layer of a usual size: a small model's own layer
takes microseconds and would measure chance."""
_SPEED_ROUNDS = 12
_LEAST_SPEED_RATIO = 0.7
"""oneDNN is taken unless clearly slower: on a busy machine the trial is noisy, and a restart that
chose otherwise would change the last bits of every text's vector."""


_FEW_ROWS = 256
_MANY_ROWS_STEP = 64


def product_rows(tokens: int) -> int:
    """Return how many rows a product of so many tokens is asked for: one of a few dozen numbers.

    oneDNN makes and keeps kernels for every number of rows it meets, a thousand of them. With any
    number of tokens as it comes that was 1.4 GB, reached after a quarter of an hour, and time.

    >>> [product_rows(tokens) for tokens in (1, 16, 17, 255, 257, 1000)]
    [16, 16, 32, 256, 320, 1024]
    """
    step = MIN_PRODUCT_ROWS if tokens <= _FEW_ROWS else _MANY_ROWS_STEP
    return max(MIN_PRODUCT_ROWS, -(-tokens // step) * step)


class Linear(Protocol):
    """x W^T + b for x [S, I], three ways."""

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """[S, O]"""

    def gelu(self, x: torch.Tensor) -> torch.Tensor:
        """[S, O], through the exact GELU."""

    def plus(self, x: torch.Tensor, residual: torch.Tensor) -> torch.Tensor:
        """[S, O], with a residual [S, O] added."""


class PublicLinear:
    """``torch.nn.functional.linear``: any device, any precision."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor) -> None:
        self._weight, self._bias = weight, bias

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """See ``Linear``."""
        return functional.linear(x, self._weight, self._bias)

    def gelu(self, x: torch.Tensor) -> torch.Tensor:
        """See ``Linear``."""
        return functional.gelu(self(x))

    def plus(self, x: torch.Tensor, residual: torch.Tensor) -> torch.Tensor:
        """See ``Linear``."""
        return self(x) + residual


class OneDnnLinear:
    """oneDNN with weights laid out for it once: torch's operators for it are private, so
    ``choose_linear`` tries them before anything depends on them."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor) -> None:
        self._ops = torch.ops.mkldnn
        self._weight = self._ops._reorder_linear_weight(weight.contiguous(), _EXPECTED_TOKENS)
        self._bias = bias

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """See ``Linear``."""
        return self._pointwise(x, "none", "")

    def gelu(self, x: torch.Tensor) -> torch.Tensor:
        """See ``Linear``."""
        return self._pointwise(x, "gelu", "none")

    def plus(self, x: torch.Tensor, residual: torch.Tensor) -> torch.Tensor:
        """See ``Linear``."""
        added: torch.Tensor = self._ops._linear_pointwise.binary(
            x, residual, self._weight, self._bias, "add"
        )
        return added

    def _pointwise(self, x: torch.Tensor, attribute: str, algorithm: str) -> torch.Tensor:
        result: torch.Tensor = self._ops._linear_pointwise(
            x, self._weight, self._bias, attribute, [], algorithm
        )
        return result


LinearFactory = Callable[[torch.Tensor, torch.Tensor], Linear]


def choose_linear(
    device: torch.device, weight: torch.Tensor, bias: torch.Tensor
) -> tuple[LinearFactory, str]:
    """Return how to make linears, and its name, by a short trial on one layer of the model."""
    if device.type != "cpu" or not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return PublicLinear, "torch"
    try:
        refusal = _refusal(weight, bias)
    except (AttributeError, RuntimeError, TypeError) as error:
        refusal = f"its operators are not as expected: {str(error).splitlines()[0]}"
    if refusal is not None:
        logger.warning("oneDNN's prepacked products are not used: %s", refusal)
        return PublicLinear, "torch"
    return OneDnnLinear, "onednn"


def _refusal(weight: torch.Tensor, bias: torch.Tensor) -> str | None:
    """Why oneDNN is not to be used for [O, I] ``weight``; None when it is."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(_PROBE_ROWS[-1], weight.shape[1], generator=generator)
    residual = torch.randn(_PROBE_ROWS[-1], weight.shape[0], generator=generator)
    public, onednn = PublicLinear(weight, bias), OneDnnLinear(weight, bias)
    for ours, theirs in (
        (onednn(x), public(x)),
        (onednn.gelu(x), public.gelu(x)),
        (onednn.plus(x, residual), public.plus(x, residual)),
    ):
        if not torch.allclose(ours, theirs, rtol=_TOLERANCE, atol=_TOLERANCE):
            return f"results differ by {float((ours - theirs).abs().max()):.1e}"
    whole = onednn(x)
    for rows in _PROBE_ROWS:
        if not torch.equal(onednn(x[:rows]), whole[:rows]):
            return f"the bits of a row change when {rows} rows are multiplied at once"
    ratio = _speed_ratio()
    logger.info("oneDNN's prepacked float32 products run at %.1f times torch's speed", ratio)
    return None if ratio >= _LEAST_SPEED_RATIO else f"at {ratio:.1f} of torch's speed"


def _speed_ratio() -> float:
    """oneDNN's speed over torch's, in processor time of one thread: other load does not count."""
    weight, bias = torch.ones(_SPEED_SHAPE), torch.zeros(_SPEED_SHAPE[0])
    x = torch.ones(_PROBE_ROWS[-1], _SPEED_SHAPE[1])
    linears: tuple[Linear, Linear] = PublicLinear(weight, bias), OneDnnLinear(weight, bias)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        rounds_s = [[_once_s(linear, x) for linear in linears] for _ in range(_SPEED_ROUNDS)]
    finally:
        torch.set_num_threads(threads)
    public_s, onednn_s = (min(times) for times in zip(*rounds_s, strict=True))
    return float(public_s / onednn_s)


def _once_s(linear: Linear, x: torch.Tensor) -> float:
    started = time.thread_time()
    linear(x)
    return time.thread_time() - started
