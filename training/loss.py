"""What is learned: that an image and its texts belong together, and to nothing else of the batch.

With one text an image these are open_clip's losses, ``ClipLoss`` (Radford et al. 2021) and
``SigLipLoss`` (Zhai et al. 2023). With N texts an image, B images are compared with B × N texts:

- **clip**: an image is to find its N texts among all, each with the same share: the mean of
  -log softmax over its positives ("supervised contrastive", outside the logarithm: Khosla et al.
  2020, eq. 2). A text is to find its one image among B. The loss is the mean of both directions; it
  can't fall below log(N) / 2.
- **siglip**: every pair is a question of its own, so it is the mean of N losses of one text each.

For N = 1 both are the loss of one text. Over processes every one compares its own images with all
texts and its own texts with all images ("local loss"), through a gather that has a gradient. The
mean over processes then is the loss of the joint batch, and so is the mean of gradients.
"""

from __future__ import annotations

from collections.abc import Callable

import training.vision  # noqa: F401  # first: see there

import torch  # isort: skip
from open_clip.loss import ClipLoss, SigLipLoss, gather_features
from torch import Tensor
from torch.nn import functional

#: (images, texts, scale, bias) → loss: features of length 1, (B, D) and (B × N, D), those of an
#: image's texts one after the other; the factor of the logits; what is added to them, or None.
Loss = Callable[[Tensor, Tensor, Tensor, Tensor | None], Tensor]


def clip(texts: int, rank: int = 0, world: int = 1) -> Loss:
    """The loss of CLIP with ``texts`` texts an image; every process has as many images."""
    if texts == 1:
        whole = ClipLoss(local_loss=True, gather_with_grad=True, rank=rank, world_size=world)

        def one(images: Tensor, read: Tensor, scale: Tensor, bias: Tensor | None) -> Tensor:
            loss: Tensor = whole(images, read, scale, bias)
            return loss

        return one

    def several(images: Tensor, read: Tensor, scale: Tensor, bias: Tensor | None) -> Tensor:
        own = len(images)
        _check_counts(own, len(read), texts)
        all_images, all_texts = images, read
        if world > 1:
            all_images, all_texts = gather_features(
                images,
                read,
                local_loss=True,
                gather_with_grad=True,
                rank=rank,
                world_size=world,
            )
        add = 0 if bias is None else bias
        per_image = scale * images @ all_texts.T + add  # (B, W B N)
        # the columns of image i are those of its N texts, in the block of this process
        here = per_image[:, rank * own * texts : (rank + 1) * own * texts].view(own, own, texts)
        positive = here.diagonal(dim1=0, dim2=1)  # (N, B)
        of_images = (per_image.logsumexp(dim=1) - positive.mean(dim=0)).mean()
        per_text = scale * read @ all_images.T + add  # (B N, W B)
        whose = torch.arange(own, device=read.device).repeat_interleave(texts) + rank * own
        return (of_images + functional.cross_entropy(per_text, whose)) / 2

    return several


def siglip(texts: int, rank: int = 0, world: int = 1) -> Loss:
    """The loss of SigLIP with ``texts`` texts an image; every process has as many images."""
    whole = SigLipLoss(rank=rank, world_size=world, dist_impl="gather")

    def loss(images: Tensor, read: Tensor, scale: Tensor, bias: Tensor | None) -> Tensor:
        _check_counts(len(images), len(read), texts)
        each = read.view(len(images), texts, -1).unbind(dim=1)
        found: Tensor = torch.stack([whole(images, one, scale, bias) for one in each]).mean()
        return found

    return loss


def _check_counts(images: int, read: int, texts: int) -> None:
    if read != images * texts:
        raise ValueError(f"{images} images with {texts} texts each, but {read} texts")
