"""BatchNorm folded into the convolutions beside it: the same numbers at inference, with less memory traffic."""

import copy

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from retrieval.layers.mbconv import MBConv
from retrieval.layers.norm import BatchNormAct
from retrieval.layers.stem import Conv16Stem, ConvStem


@torch.no_grad()
def fold_batch_norms(network: nn.Module) -> nn.Module:
    """A copy in eval mode whose stems and MBConv blocks carry no BatchNorm where it folds exactly; not for training."""
    folded = copy.deepcopy(network).eval()
    for module in folded.modules():
        if isinstance(module, MBConv):
            _fold_block(module)
        elif isinstance(module, ConvStem):
            module.conv1, module.norm1 = fuse_conv_bn_eval(module.conv1, module.norm1), module.norm1.act
        elif isinstance(module, Conv16Stem):
            for i in range(0, len(module.layers), 2):
                conv, norm = module.layers[i], module.layers[i + 1]
                module.layers[i], module.layers[i + 1] = fuse_conv_bn_eval(conv, norm), norm.act
    return folded


def _fold_block(block: MBConv) -> None:
    block.conv1_1x1, block.norm1 = fuse_conv_bn_eval(block.conv1_1x1, block.norm1), block.norm1.act
    if isinstance(block.se_early, nn.Identity):
        block.conv2_kxk, block.norm2 = fuse_conv_bn_eval(block.conv2_kxk, block.norm2), block.norm2.act
    # A 1×1 convolution has no padding and average pooling keeps constants, so the norm before them folds too,
    # unless an activation stands between.
    if isinstance(block.pre_norm.act, nn.Identity):
        _fold_norm_into_next(block.pre_norm, block.conv1_1x1)
        block.pre_norm = nn.Identity()


def _fold_norm_into_next(norm: BatchNormAct, conv: nn.Conv2d) -> None:
    """conv(γ (x − μ) / σ + β) written as one convolution: W γ/σ, and b + W (β − μ γ/σ)."""
    scale_C = norm.weight / (norm.running_var + norm.eps).sqrt()
    shift_C = norm.bias - norm.running_mean * scale_C
    conv.bias.add_(conv.weight.flatten(1) @ shift_C)
    conv.weight.mul_(scale_C.view(1, -1, 1, 1))
