"""Any model of timm (github.com/huggingface/pytorch-image-models) as an encoder."""

from __future__ import annotations

from collections.abc import Callable
from difflib import get_close_matches
from typing import Any

from torch import Tensor, nn

from ..errors import UserError


class TimmEncoder(nn.Module):
    """A timm model behind the face of an encoder. `forward` pools as the model's own classifier would.

    Both raise UserError when the model is built for images of another size.
    """

    def __init__(self, model: Any):  # timm's models share methods that no common class declares
        super().__init__()
        self.model: Any = model
        self.dim: int = self.model.head_hidden_size  # num_features, or what layers after the pooling make of it

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, D)"""
        return _checked(self.model, x)

    def tokens(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, N, D'): one token per place, class tokens left out.

        D' is D except for the few models that widen after the pooling (mobilenetv3, mambaout). Raises UserError
        for a model with several grids of tokens (coat, crossvit).
        """
        x = _checked(self.model.forward_features, x)
        if not isinstance(x, Tensor):
            raise UserError(f"{type(self.model).__name__} gives several grids of tokens, not one: use another encoder")
        if x.ndim == 3:
            return x[:, getattr(self.model, "num_prefix_tokens", 0) :]
        if getattr(self.model, "output_fmt", "NCHW") == "NHWC":
            return x.flatten(1, 2)
        return x.flatten(2).transpose(1, 2)


def _checked(call: Callable[[Tensor], Any], x: Tensor) -> Any:
    try:
        return call(x)
    except AssertionError as error:  # how timm says that a size does not fit
        raise UserError(f"timm: {error} Give the encoder img_size={x.shape[-1]}, or views of its own size") from None


def timm_encoder(name: str, channels: int = 3, pretrained: bool = False, img_size: int | None = None) -> TimmEncoder:
    """The timm model `name`, without its classifier.

    pretrained: fetch its published weights.
    img_size:   pixels a side, for models that are built for one size (ViT, Swin); None is the model's own.
    Raises UserError when timm is missing, the name is unknown, the model takes no `img_size` or its weights cannot
    be fetched.
    """
    try:
        import timm
    except ImportError:
        raise UserError(f"'timm:{name}' needs timm: pip install timm") from None
    if not timm.is_model(name):
        near = timm.list_models(f"*{name}*")[:5] or get_close_matches(name, timm.list_models(), n=5)
        hint = f", did you mean {' or '.join(near)}?" if near else "; timm.list_models() names all it has"
        raise UserError(f"timm has no model '{name}'{hint}")
    size: dict[str, Any] = {} if img_size is None else {"img_size": img_size}
    try:
        return TimmEncoder(timm.create_model(name, pretrained, in_chans=channels, num_classes=0, **size))
    except Exception as error:  # timm, its hub client and the network each have errors of their own
        reason = str(error).strip().split("\n")[0].rstrip(".")
        if "'img_size'" in reason:
            reason, mend = "it has no img_size", "; leave img_size out: it takes images of any size"
        else:
            mend = "; give pretrained=False to start from random weights" if pretrained else ""
        raise UserError(f"timm cannot build '{name}': {reason}{mend}") from None
